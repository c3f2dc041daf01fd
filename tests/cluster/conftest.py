"""A real Ray cluster for the tests marked `cluster`, and what one machine says of their material."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.cluster_scan import NODE, make_material, run_scan_of
from helpers.library_rows import Rows


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    """The head of a cluster, to which tests add a second node: a raylet with processes of its own.

    `cluster.client_address` is the address of its Ray Client server.
    """
    utils = pytest.importorskip("ray.cluster_utils", reason="no Ray here (the extra `cluster`)")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    head = {**NODE, "include_dashboard": False, "ray_client_server_port": port}
    started = utils.Cluster(initialize_head=True, head_node_args=head)
    started.client_address = f"ray://{started.head_node.node_ip_address}:{port}"
    yield started
    started.shutdown()


@pytest.fixture
def second_node(cluster: Any) -> Iterator[Any]:
    """Another node of the cluster, for one test."""
    node = cluster.add_node(**NODE)
    yield node
    if node in cluster.list_all_nodes():
        cluster.remove_node(node)


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `make_material` fills."""
    folder = tmp_path_factory.mktemp("material")
    make_material(folder)
    return folder


@pytest.fixture(scope="session")
def expected(material: Path, tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """What one machine says."""
    rows, _ = run_scan_of(material, tmp_path_factory.mktemp("one") / "library.db")
    assert len(rows["contents"]) == 8 and rows["segments"]
    return rows
