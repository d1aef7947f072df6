# SPDX-License-Identifier: Apache-2.0
"""What a Dockerfile of an account's image may say."""

import pytest

from container_stack import exceptions
from container_stack.storlets.verification import report
from container_stack.storlets.workbench import dockerfile

ID = "sha256:" + "0123456789abcdef" * 4
PARENT = dockerfile.Parent(ID, ("ubuntu_14.04_jre8_storlets",))
FROM = "FROM ubuntu_14.04_jre8_storlets\n"
HEAD = FROM + "LABEL maintainer=root\n"


def check(text: str, *, offline: bool = False, **arguments: str) -> list[tuple[int | None, str]]:
    """Return line and first word of the detail of all that stands against a Dockerfile."""
    found = dockerfile.Dockerfile(text, arguments).check(PARENT, offline=offline)
    assert all(each.cure for each in found)
    return [(each.line, each.detail) for each in found if each.state == report.State.FAILED]


def warnings(text: str) -> list[tuple[int | None, str]]:
    found = dockerfile.Dockerfile(text).check(PARENT)
    assert not [each for each in found if each.state == report.State.FAILED]
    return [(each.line, each.detail) for each in found]


def test_seeds_dockerfile_is_fine() -> None:
    text = (
        "FROM 127.0.0.1:5001/ubuntu_14.04_jre8_storlets\n \nMAINTAINER root\n\n"
        'RUN ["apt-get", "update"]\n'
        'RUN ["add-apt-repository","deb http://ppa.launchpad.net/x/ffmpeg/ubuntu trusty main"]\n'
        'RUN ["apt-get", "install", "-y", "ffmpeg"]\n'
    )
    assert warnings(text) == []


@pytest.mark.parametrize(
    "reference",
    [
        "ubuntu_14.04_jre8_storlets",
        "ubuntu_14.04_jre8_storlets:latest",
        "localhost:5001/ubuntu_14.04_jre8_storlets",
        "registry.example.org/ubuntu_14.04_jre8_storlets",
        ID,
        ID[7:],
        ID[7:19],
    ],
)
def test_from_may_name_the_base(reference: str) -> None:
    assert check(f"FROM {reference}\n") == []


@pytest.mark.parametrize(
    "reference",
    [
        "ubuntu:14.04",
        "ubuntu_14.04_jre8_storlets:2",
        "someone/ubuntu_14.04_jre8_storlets",
        "scratch",
        "sha256:" + "f" * 64,
        ID[7:18],
        "0",
        "${NOTHING}",
    ],
)
def test_from_anything_else_is_refused(reference: str) -> None:
    ((line, detail),) = check(f"# why\nFROM {reference}\nLABEL maintainer=root\n")
    assert line == 2
    assert "is not the base image" in detail


def test_dockerfile_without_from_is_refused() -> None:
    assert check("ARG A=1\n") == [(None, "there is no FROM")]
    assert check("") == [(None, "there is no FROM")]


def test_from_may_use_arguments() -> None:
    text = "ARG TAG=latest\nARG BASE=ubuntu_14.04_jre8_storlets:$TAG\nFROM ${BASE}\n"
    assert check(text) == []
    assert check(text, TAG="2") == [
        (3, "FROM ubuntu_14.04_jre8_storlets:2 is not the base image"),
    ]
    assert check(text, BASE=ID) == []


@pytest.mark.parametrize(
    "line",
    [
        'ENTRYPOINT ["/bin/sh"]',
        "entrypoint /bin/sh",
        "CMD echo",
        "  CMD []",
        "ENTRY\\\nPOINT /bin/sh",
        "ENTRY\\\n# a comment\n\nPOINT /bin/sh",
        "ONBUILD RUN true",
        "ENV A=1 PYTHONHOME=/opt",
        "ENV PYTHONHOME /opt",
        "VOLUME /mnt",
        'VOLUME ["/data", "/mnt/channels/"]',
        "VOLUME /usr/local/lib/storlets/python",
        "VOLUME var/lib/../lib/storlets",
        "RUN --mount=type=secret,id=x true",
        "COPY --link a /a",
        "COPY --from=alpine /bin/sh /bin/sh",
        "COPY --from=0 a /a",
        "RUN <<EOF\ntrue\nEOF",
    ],
)
def test_what_a_sandbox_can_not_have_is_refused(line: str) -> None:
    found = check(HEAD + "RUN true\n" + line + "\n")
    assert [line for line, _ in found] == [4]


@pytest.mark.parametrize(
    "text",
    [
        "RUN echo 'ENTRYPOINT x' \\\n ENTRYPOINT x\n",
        "RUN true \\\n# CMD x\n && true\n",
        "# CMD x\n",
        'LABEL text="CMD x"\n',
        "COPY --chown=1:2 CMD /CMD\n",
    ],
)
def test_what_only_looks_so_is_fine(text: str) -> None:
    assert warnings(HEAD + text) == []


def test_escape_directive_is_obeyed() -> None:
    text = "# escape=`\n" + HEAD + "RUN dir c:\\\nCMD x\nRUN a `\nCMD y\n"
    assert check(text) == [(5, "CMD is the runtime's own matter")]


def test_stages_stand_on_the_base() -> None:
    stages = (
        f"FROM {ID} AS Build\nRUN make\nFROM ubuntu_14.04_jre8_storlets\n"
        "COPY --from=build /a /a\nCOPY --from=0 /b /b\nFROM build\n"
    )
    assert check(stages) == []
    assert check(f"FROM gcc AS build\n{FROM}COPY --from=build /a /a\n") == [
        (1, "FROM gcc is not the base image")
    ]
    assert check(f"FROM {ID} AS one\nFROM two\nFROM {ID} AS two\n") == [
        (2, "FROM two is not the base image")
    ]


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        ("HEALTHCHECK --interval=1s CMD true", "HEALTHCHECK runs"),
        ("VOLUME /data", "VOLUME /data takes disk"),
        ("USER nobody", "USER has no effect"),
        ("ADD https://example.org/x /x", "ADD https://example.org/x takes"),
        ("LABEL maintainer=alice", "the maintainer is alice"),
        ("MAINTAINER bob", "the maintainer is bob"),
    ],
)
def test_what_may_surprise_is_warned_of(line: str, detail: str) -> None:
    ((number, text),) = warnings(HEAD + line + "\n")
    assert number == 3
    assert text.startswith(detail)


def test_missing_maintainer_is_warned_of() -> None:
    assert warnings(FROM) == [(None, "no maintainer is named")]
    assert warnings(FROM + 'LABEL "maintainer"="root"\n') == []


def test_last_user_counts() -> None:
    assert warnings(HEAD + "USER nobody\nRUN true\nUSER root:root\n") == []
    assert warnings(HEAD + "HEALTHCHECK NONE\n") == []


def test_offline_build_adds_nothing_from_elsewhere() -> None:
    text = HEAD + 'ADD ["git@example.org:x.git", "local", "/x"]\n'
    assert [line for line, _ in check(text, offline=True)] == [3]
    assert check(text) == []


def test_base_goes_by_its_id_and_lines_keep_their_numbers() -> None:
    text = (
        "\ufeff# escape=`\r\nARG B=ubuntu_14.04_jre8_storlets\nFROM `\n  # which\n  $B `\n AS one\n"
        "RUN true\nFROM one\nFROM localhost/ubuntu_14.04_jre8_storlets\nRUN false\n"
    )
    assert check(text) == []
    lines = dockerfile.Dockerfile(text).over(PARENT).split("\n")
    assert len(lines) == text.count("\n") + 1
    assert lines[2:6] == [f"FROM {ID} AS one", "", "", ""]
    assert lines[7:9] == ["FROM one", f"FROM {ID}"]
    assert "ubuntu" not in "".join(lines[2:])


@pytest.mark.parametrize(
    "text",
    [
        "FORM x\n",
        HEAD + "RUN <<EOF\nnever ends\n",
        HEAD + "ENV\x00\n",
        "# escape=x\n" + HEAD,
        HEAD + "RUN " + "[" * 100_000,
        "FROM x\n" * 1_000_000,
    ],
)
def test_what_is_no_dockerfile_is_refused(text: str) -> None:
    with pytest.raises(exceptions.InvalidRequest):
        dockerfile.Dockerfile(text)


def test_refusal_names_the_line() -> None:
    with pytest.raises(exceptions.InvalidRequest, match="line 3: unknown instruction: RUM"):
        dockerfile.Dockerfile(HEAD + "RUM true\n")
