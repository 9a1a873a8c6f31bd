"""YAML that the parser itself stumbles over is refused like any other."""

from __future__ import annotations

from pathlib import Path

import pytest

from featherface.errors import ConfigError
from featherface.yaml_files import read_yaml


@pytest.mark.parametrize(
    "text",
    ["[" * 5000, "data: 2020-13-45\n", f"synthesize: {{num_train: {'9' * 5000}}}\n", "a: \0"],
    ids=["deep", "no date", "huge number", "control character"],
)
def test_yaml_that_breaks_the_parser_is_refused_with_the_file_named(text: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"params\.yaml: is not valid YAML: .") as refused:
        read_yaml(path)
    assert "\n" not in str(refused.value)
