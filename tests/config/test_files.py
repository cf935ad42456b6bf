"""Which files settings are read from, and which are refused."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from settings import Write
from veyra import config
from veyra.config import files
from veyra.config.files import MAX_SIZE
from veyra.errors import ConfigError

BACKEND = 'backend = "{}"\n'.format


def _backend() -> object:
    setting = config.load().setting("backend")
    return None if setting is None else setting.value


def test_the_first_file_upwards_counts(write: Write, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of the nearest directory is read, and those above it are not."""
    write(BACKEND("outer"))
    (project / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(project / "a" / "b")
    assert _backend() == "outer"
    write(BACKEND("inner"), "a/veyra.toml")
    assert _backend() == "inner"
    assert [document.place.how for document in config.documents()] == ["user", "found"]


def test_the_file_that_was_found_goes_before_the_users_own(write: Write, own: Path) -> None:
    """Both files are read; where both set something, the project's does."""
    write(BACKEND("project"))
    write('backend = "own"\n[audit]\nmode = "async"\n', str(own / "veyra.toml"))
    assert _backend() == "project"
    assert config.load().value("audit.mode") == "async"


def test_the_users_own_file_is_not_read_twice(write: Write, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who works in the directory of the user's settings has one file, not two."""
    write(BACKEND("own"), str(own / "veyra.toml"))
    monkeypatch.chdir(own)
    assert [document.place.how for document in config.documents()] == ["user"]


def test_one_file_can_be_named_and_all_be_left_out(write: Write, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`VEYRA_CONFIG` names the one file that is read; `off` reads none."""
    write(BACKEND("project"))
    write('[audit]\nmode = "async"\n', str(own / "veyra.toml"))
    write(BACKEND("named"), "other.toml")
    monkeypatch.setenv("VEYRA_CONFIG", "other.toml")
    assert _backend() == "named"
    assert config.load().value("audit.mode") == "strict"
    monkeypatch.setenv("VEYRA_CONFIG", "off")
    assert _backend() is None
    assert config.documents() == []


def test_a_named_file_must_be_there(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that was named and is missing is an error; the user's own may be missing."""
    assert _backend() is None
    monkeypatch.setenv("VEYRA_CONFIG", "~nobody-has-this-name/veyra.toml")
    with pytest.raises(ConfigError, match=r"nobody-has-this-name/veyra\.toml: is not there"):
        config.load()


def test_a_file_is_read_once(write: Write, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that changes, goes or appears later changes nothing until it is read anew; a variable counts at once."""
    path = write(BACKEND("first"))
    assert _backend() == "first"
    path.write_text(BACKEND("second"))
    assert _backend() == "first"
    path.unlink()
    assert _backend() == "first"
    monkeypatch.setenv("VEYRA_BACKEND", "variable")
    assert _backend() == "variable"
    monkeypatch.delenv("VEYRA_BACKEND")
    config.reload()
    assert _backend() is None
    path.write_text(BACKEND("third"))
    assert _backend() is None
    config.reload()
    assert _backend() == "third"


def _directory(path: Path) -> None:
    path.mkdir()


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _loop(path: Path) -> None:
    path.symlink_to(path)


def _broken(path: Path) -> None:
    path.symlink_to("nowhere")


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _huge(path: Path) -> None:
    path.write_bytes(b"#" * (MAX_SIZE + 1))


def _writable(path: Path) -> None:
    path.write_text(BACKEND("x"))
    path.chmod(0o666)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_directory, "is a directory, not a file"),
        (_pipe, "is not a regular file"),
        (_loop, "cannot be read: Too many levels of symbolic links"),
        (_broken, "is not there"),
        (_device, "is not a regular file"),
        (_huge, "is larger than 65,536 bytes"),
        (_writable, "can be written by everybody: chmod o-w it"),
    ],
)
@pytest.mark.parametrize("where", ["project", "own"])
def test_what_cannot_be_a_file_of_settings_is_told(
    make: object, words: str, where: str, project: Path, own: Path
) -> None:
    """What stands in the place of a file is told by its name, and nothing waits for it."""
    assert callable(make)
    path = (project if where == "project" else own) / "veyra.toml"
    make(path)
    with pytest.raises(ConfigError) as told:
        config.load()
    assert str(told.value).startswith(f"{path}: {words}")
    assert (told.value.path, told.value.line) == (path, None)


def test_a_file_as_large_as_allowed_is_read(write: Write) -> None:
    """The limit of a file's size is what it says."""
    text = BACKEND("mock")
    rest = MAX_SIZE - len(text)
    write(text + ("#" * 1023 + "\n") * (rest // 1024) + "#" * (rest % 1024))
    assert _backend() == "mock"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused_unless_it_is_named(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that somebody else put above the working directory is not believed; naming it is how to insist."""
    path = write(BACKEND("theirs"))
    os.chown(path, 12345, 12345)
    with pytest.raises(ConfigError, match=r"belongs to another user \(uid 12345\).* name it in VEYRA_CONFIG"):
        config.load()
    monkeypatch.setenv("VEYRA_CONFIG", str(path))
    assert _backend() == "theirs"


@contextmanager
def _nobody() -> Iterator[None]:
    """Be a user without rights, where this one is root, who has them all."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def public(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory that every user can reach."""
    with TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        monkeypatch.chdir(directory)
        yield directory


def test_a_file_that_cannot_be_read_is_told(public: Path) -> None:
    """A file without permission is an error that says so."""
    (public / "veyra.toml").touch(mode=0)
    with _nobody(), pytest.raises(ConfigError, match=r"veyra\.toml: cannot be read: Permission denied"):
        config.load()


def test_a_directory_that_cannot_be_looked_into_has_no_file(public: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where this user may not look, there is nothing for this user; what is above counts."""
    (public / "veyra.toml").write_text(BACKEND("outer"))
    inner = public / "closed"
    inner.mkdir()
    (inner / "veyra.toml").write_text(BACKEND("inner"))
    monkeypatch.chdir(inner)
    inner.chmod(0)
    try:
        with _nobody():
            assert _backend() == "outer"
    finally:
        inner.chmod(0o700)


def test_without_a_working_directory_there_is_no_project(write: Write, project: Path) -> None:
    """A working directory that was removed is no error: the user's own settings hold."""
    write(BACKEND("project"))
    inner = project / "gone"
    inner.mkdir()
    os.chdir(inner)
    shutil.rmtree(inner)
    assert _backend() is None
    assert [document.place.how for document in config.documents()] == ["user"]


def test_without_a_home_there_is_no_file_of_ones_own(
    project: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user without a home directory, as in a container, has the project's settings alone."""
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # what it gives where nothing is known of the user
    write(BACKEND("project"))
    assert _backend() == "project"
    assert [place.how for place in files.places()] == ["found"]


def test_a_broken_link_of_ones_own_is_told(own: Path, project: Path) -> None:
    """A link that leads nowhere is a mistake, not a file that is not there."""
    (own / "veyra.toml").symlink_to(project / "nowhere")
    with pytest.raises(ConfigError, match="is not there"):
        config.load()
