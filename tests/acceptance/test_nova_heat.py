# SPDX-License-Identifier: Apache-2.0
"""The seed's template through a real Heat."""

import pytest

from . import nova_inside, nova_world, process

_TEMPLATE = """\
heat_template_version: 2018-08-31
parameters:
  flavor: {{type: string}}
  image: {{type: string}}
  network_id: {{type: string}}
  zone: {{type: string}}
resources:
  docker_image:
    type: OS::Nova::Server
    properties:
      flavor: {{get_param: flavor}}
      image: {{get_param: image}}
      availability_zone: {{get_param: zone}}
      {form}networks:
        - network: {{get_param: network_id}}
      user_data: |
        volumes :
          {path} : {path}
outputs:
  server:
    value: {{get_resource: docker_image}}
"""


@pytest.mark.parametrize("form", ["", "user_data_format: RAW\n      "])
def test_the_seed_s_template_makes_a_server_with_a_directory_of_the_host(
    hosts: nova_world.World, form: str
) -> None:
    stack = _create(hosts, nova_world.LENIENT, form)

    assert stack["stack_status"] == "CREATE_COMPLETE", stack["stack_status_reason"]
    [server] = [each["output_value"] for each in stack["outputs"]]
    [container] = hosts.lenient.containers(server)
    (hosts.permitted / "log").write_text("calm sea")
    assert nova_inside.run(container, "cat", f"{hosts.permitted}/log") == "calm sea"
    _delete(hosts)
    assert hosts.lenient.containers(server) == []


def test_a_refused_template_says_why(hosts: nova_world.World) -> None:
    stack = _create(hosts, nova_world.STRICT, "")

    assert stack["stack_status"] == "CREATE_FAILED"
    assert "allowed_host_paths" in stack["stack_status_reason"]
    _delete(hosts)


def _create(hosts: nova_world.World, zone: str, form: str) -> dict[str, object]:
    text = _TEMPLATE.format(path=hosts.permitted, form=form)
    (hosts.user.directory / "seed-hot.yaml").write_text(text)
    hosts.user.type(
        "openstack stack create -t seed-hot.yaml --parameter flavor=small --parameter image=hello "
        f"--parameter network_id={hosts.network} --parameter zone={zone} seed"
    )

    def look() -> dict[str, object] | None:
        found: dict[str, object] = hosts.user.run("stack", "show", "seed")
        return found if found["stack_status"] != "CREATE_IN_PROGRESS" else None

    return process.wait_for("the stack", look, timeout=180, processes=hosts.cloud.processes)


def _delete(hosts: nova_world.World) -> None:
    hosts.user.type("openstack stack delete --yes --wait seed")
