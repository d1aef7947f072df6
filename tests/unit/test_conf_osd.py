# SPDX-License-Identifier: Apache-2.0
"""The daemon's configuration: the seed's file, ours, and every way to get it wrong."""

import re
from pathlib import Path

import pytest
import yaml

from container_stack import exceptions
from container_stack.conf import osd, osd_options

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "etc" / "container-stack" / "osd.yaml.sample"
SEED = """
osd:
  drivers:
      nfs:
        server: "171.30.0.20"
        path: "/nfs"
      btrfs:
      aws:
        aws_access_key_id: your_aws_access_key_id
        aws_secret_access_key: your_aws_secret_access_key
"""


def test_file_of_the_seed_is_read_as_it_stands_there() -> None:
    settings = osd.parse(SEED)
    assert [(each.name, each.backend) for each in settings.drivers] == [
        ("nfs", "nfs"),
        ("btrfs", "btrfs"),
        ("aws", "aws"),
    ]
    nfs, btrfs, aws = settings.drivers
    assert nfs.settings == {"server": "171.30.0.20", "path": "/nfs"}
    assert btrfs.settings == {}
    assert aws.settings["aws_secret_access_key"] == "your_aws_secret_access_key"
    assert settings.state_dir == "/var/lib/osd"
    assert settings.plugin_socket("nfs") == "/run/docker/plugins/nfs.sock"
    assert settings.registry == "sqlite:////var/lib/osd/osd.sqlite"
    assert settings.cluster is None
    assert settings.listen is None


def test_keys_are_spelled_either_way() -> None:
    lower, upper = (
        osd.parse(f"osd: {{drivers: {{aws: {{{key}: k, region: r}}}}}}").drivers[0].settings
        for key in ("aws_access_key_id", "AWS_ACCESS_KEY_ID")
    )
    assert lower == upper == {"aws_access_key_id": "k", "region": "r"}


def test_both_spellings_at_once_are_refused() -> None:
    with pytest.raises(exceptions.InvalidRequest, match="aws_region twice"):
        osd.parse("osd: {drivers: {aws: {aws_region: a, AWS_REGION: b}}}")


def test_keys_of_digits_stay_what_they_are() -> None:
    settings = osd.parse("osd: {drivers: {aws: {aws_access_key_id: 0123, x: 1e3, y: yes}}}")
    assert settings.drivers[0].settings == {"aws_access_key_id": "0123", "x": "1e3", "y": "yes"}


@pytest.mark.parametrize("nothing", ["", "~", "null", "{}"])
def test_nothing_may_be_said_of_a_driver(nothing: str) -> None:
    settings = osd.parse(f"osd: {{drivers: {{loop: {nothing}}}, cluster: {nothing}}}")
    assert settings.drivers == (osd.Driver("loop", "loop"),)
    assert settings.cluster is not None
    assert osd.parse(f"osd: {{drivers: {nothing}}}").drivers == ()


def test_driver_may_have_a_name_of_its_own() -> None:
    driver = osd.parse("osd: {drivers: {fast: {backend: lvm, volume_group: vg}}}").drivers[0]
    assert (driver.name, driver.backend, driver.settings) == ("fast", "lvm", {"volume_group": "vg"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("osd: {drivres: {}}", "unknown key 'drivres'; did you mean drivers?"),
        ("osd: {state_dri: /x}", "did you mean state_dir?"),
        ("osd: {cluster: {node_id: a}}", "did you mean nodeid?"),
        ("osd: {listen: {prot: 1}}", "did you mean port?"),
        ("odd: {}", "did you mean osd?"),
        ("osd: {interval: soon}", "interval: it is a number from 1 to 3600"),
        ("osd: {threads: 0}", "threads: it is a whole number from 2"),
        ("osd: {threads: ٣}", "threads: it is a whole number"),
        ("osd: {plugins: maybe}", "plugins: it is true or false"),
        ("osd: {state_dir: here}", "state_dir: it must be an absolute path"),
        ("osd: {log_level: loud}", "it is one of error, warning, info, debug"),
        ("osd: {interval: [1]}", "interval must be a single value"),
        ("osd: {cluster: {nodeid: a/b}}", "nodeid: use letters"),
        ("osd: {cluster: {coordination: etcd3+http://a}}", "registry is unset"),
        ("osd: {listen: {}}", "listen: cert: it must be an absolute path"),
        ("osd: {drivers: [nfs]}", "drivers is a mapping"),
        ("osd: {drivers: {nfs: text}}", "drivers: nfs is a mapping"),
        ("osd: {drivers: {nfs: {path: [1]}}}", "path must be a text"),
        ("osd: {drivers: {../x: }}", "can't be a driver's name"),
        ("osd: {drivers: {cluster: }}", "can't be a driver's name"),
        ("osd: {drivers: {nfs: , nfs: }}", "'nfs' is there twice, line 1"),
        ("osd: {? [1] : 2}", "a key must be a text"),
        ("osd: {", "it is no YAML"),
        ("- osd", "The file must be a mapping"),
        ("", "The file must be a mapping"),
        ("osd:", "osd must be a mapping"),
        ("osd: !!python/object/apply:os.system [id]", "osd must be a mapping"),
        ("\0", "it is no YAML"),
        ("[" * 100_000, "it is no YAML"),
    ],
)
def test_what_is_wrong_is_told(text: str, said: str) -> None:
    with pytest.raises(exceptions.InvalidRequest, match=re.escape(said)):
        osd.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "osd: {drivers: {aws: {aws_secret_access_key: [SECRET]}}}",
        "osd: {drivers: {aws: {aws_secret_access_key: 'SECRET}}}",
        "osd: {drivers: {aws: {k: SECRET, k: SECRET}}}",
        "osd: {registry: {mysql: SECRET}}",
    ],
)
def test_errors_show_no_secret(text: str) -> None:
    with pytest.raises(exceptions.InvalidRequest) as told:
        osd.parse(text)
    assert "SECRET" not in str(told.value)


def test_settings_show_no_secret() -> None:
    settings = osd.parse(
        "osd: {drivers: {aws: {aws_secret_access_key: SECRET}}, registry: 'mysql://a:SECRET@b/c'}"
    )
    assert "SECRET" not in repr(settings)


def test_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(exceptions.InvalidRequest, match="There is no configuration"):
        osd.read(str(tmp_path / "none.yaml"))


def test_huge_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "osd.yaml"
    path.write_text("#" * (osd.MOST_BYTES + 1), encoding="utf-8")
    with pytest.raises(exceptions.InvalidRequest, match="more than"):
        osd.read(str(path))


def test_sample_shows_every_option_with_its_default() -> None:
    sample = SAMPLE.read_text(encoding="utf-8")
    # Sentences begin with one blank after the sign.
    plain = yaml.safe_load(re.sub(r"^( *)#(?! \S)", r"\1", sample, flags=re.M))["osd"]
    parts = {"": osd_options.OPTIONS, "cluster": osd_options.CLUSTER, "listen": osd_options.LISTEN}
    for part, options in parts.items():
        shown = plain[part] if part else plain
        assert {each.name for each in options} <= set(shown)
        for each in options:
            text = str(shown[each.name])
            assert each.default in ("", text, text.lower()), each.name
    assert set(plain) == {"drivers", "cluster", "listen"} | {e.name for e in osd_options.OPTIONS}


def test_sample_is_read() -> None:
    assert [each.name for each in osd.read(str(SAMPLE)).drivers] == ["loop"]
