"""The rooms and who may import whom, as the table in docs/architecture.md draws it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "imagelake"

# Low to high: a room imports only from rooms on a lower line; rooms on one line are strangers.
LINES: list[set[str]] = [
    {"errors"},
    {"schema", "files", "_optional", "download"},
    {"pixels", "lake", "search"},
    {"models"},
    {"steps", "sources"},
    {"run", "serve"},
    {"gallery"},
    {"api", "graphpipe"},
    {"__init__"},
    {"demo"},
    {"web"},
    {"cli"},
    {"__main__"},
]
LINE_OF = {room: number for number, line in enumerate(LINES) for room in line}

# A third-party library is imported in these places and nowhere else.
HOMES: dict[str, set[str]] = {
    "lance": {"lake/table.py", "lake/staged.py"},
    "duckdb": {"lake/sql.py"},
    "cv2": {"pixels", "models/opencv_runtime.py"},
    "PIL": {"pixels"},
    "pi_heif": {"pixels"},
    "onnx": {"models"},
    "onnxruntime": {"models/onnx_runtime.py"},
    "typer": {"cli"},
    "rich": {"cli"},
    "platformdirs": {"models"},
    "urllib3": {
        "sources/web_guard.py",
        "sources/web_fetch.py",
        "sources/web_answer.py",
        "serve/graphpipe_client.py",
    },
    "watchfiles": {"sources/folder_changes.py"},
    "starlette": {"serve", "web"},
    "uvicorn": {"serve"},
    "python_multipart": {"serve"},
    "flatbuffers": {"serve/graphpipe_schema"},
    "prometheus_client": {"serve/metrics.py"},
    "swagger_ui_bundle": {"serve/docs_page.py"},
    "grpc": {"serve/oip_grpc.py"},  # of the extra `grpc`
    "google": {"serve/oip_grpc_codec.py", "serve/oip_grpc_schema"},
    "opentelemetry": {"serve/tracing.py"},  # of the extra `otel`
    "pyspark": {
        "run/spark.py",
        "run/spark_jobs.py",
        "run/spark_session.py",
        "run/spark_ingest.py",
        "run/spark_tasks.py",
        "run/spark_to.py",
    },
    "lance_namespace": {"lake/table.py"},
    "obstore": {"sources/bucket_store.py", "sources/bucket_listing.py", "lake/staging.py"},  # of the extra `buckets`
    "deltalake": {"run/export_delta.py"},  # of the extra `delta`
    "reverse_geocode": {"run/places.py"},  # of the extra `geo`
    "adbc_driver_manager": {"sources/postgres_server.py"},  # of the extra `postgres`
    "adbc_driver_postgresql": {"sources/postgres_server.py"},
    "umap": {"gallery/umap_layout.py"},  # of the extra `umap`
    "torch": {"search/gpu.py", "run/knn_contenders.py", "models/import_torch.py"},  # of the extras `gpu` and `torch`
    "sklearn": {"models", "run/knn_contenders.py"},
    "faiss": {"run/knn_contenders.py"},
    "usearch": {"run/knn_contenders.py"},
    "cuvs": {"run/knn_contenders.py"},
}
NO_ARROW = {"pixels", "models", "search", "cli", "api"}  # they speak NumPy or words; Arrow stops before them
ARROW_AT_THE_EDGE = {"api"}  # `Lake.sql` hands a table to the user

FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> list[tuple[str, int]]:
    """Every module that a file imports anywhere, with the line; relative imports are reported as '.'."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append(("." if node.level else str(node.module), node.lineno))
            if node.module == "imagelake":
                found += [(f"imagelake.{alias.name}", node.lineno) for alias in node.names]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    """A file imports its own room and lower lines only, and never relatively."""
    own = room_of(path)
    assert own in LINE_OF, f"{own} stands on no line; add it to LINES and to docs/architecture.md"
    for module, line in imports(path):
        assert module != ".", f"{path}:{line}: relative import"
        if not module.startswith("imagelake."):
            continue
        room = module.split(".")[1]
        if room == own or room not in LINE_OF:  # the same room, or a name of imagelake itself such as __version__
            continue
        assert LINE_OF[room] < LINE_OF[own], f"{path}:{line}: {own} may not import {room}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_libraries_stay_at_home(path: Path) -> None:
    """Each third-party library is imported only in the room, or the file, that it belongs to."""
    place = str(path.relative_to(PACKAGE))
    for module, line in imports(path):
        homes = HOMES.get(module.split(".")[0])
        if homes is not None:
            assert {place, str(Path(place).parent), room_of(path)} & homes, (
                f"{path}:{line}: {module} belongs to {sorted(homes)}"
            )
        if module.split(".")[0] == "pyarrow" and room_of(path) not in ARROW_AT_THE_EDGE:
            assert room_of(path) not in NO_ARROW, f"{path}:{line}: Arrow stops before {room_of(path)}"


def test_every_room_says_what_it_is() -> None:
    """Each package begins with a docstring."""
    for path in PACKAGE.rglob("__init__.py"):
        assert ast.get_docstring(ast.parse(path.read_text())), path
