import pytest

from focus_detr.ops.cpu import build


def test_no_compiler_is_one_clear_line(monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(build.shutil, "which", lambda name: None)
    with pytest.raises(build.BuildError, match=r"no C\+\+ compiler found"):
        build.find_compiler()


@pytest.mark.parametrize(
    ("compiler", "words"), [("false", "exit code 1"), ("no-such-compiler", "does not run")]
)
def test_failed_compile_says_why_and_leaves_nothing(monkeypatch, tmp_path, compiler, words):
    monkeypatch.setenv("CXX", compiler)
    with pytest.raises(build.BuildError, match=words):
        build.build(tmp_path)
    assert not list(tmp_path.iterdir())


def test_error_of_the_compiler_is_passed_on(monkeypatch, tmp_path):
    try:
        build.find_compiler()
    except build.BuildError:
        pytest.skip("no C++ compiler here")
    broken = tmp_path / "broken.cpp"
    broken.write_text("int main( {")
    monkeypatch.setattr(build, "SOURCE", broken)
    with pytest.raises(build.BuildError, match="broken.cpp.*error"):
        build.build(tmp_path / "out")
