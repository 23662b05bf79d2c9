import pytest

from advbench import files


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "file"
    files.write_text(path, "old")

    def half(stream):
        stream.write(b"ne")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        files.write(path, half)
    assert path.read_text() == "old" and list(path.parent.iterdir()) == [path]


def test_a_link_is_replaced_not_followed(tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("mine")
    link = tmp_path / "link"
    link.symlink_to(outside)
    files.write_text(link, "theirs")
    assert outside.read_text() == "mine" and link.read_text() == "theirs"


def test_what_a_killed_process_left_is_swept_and_nothing_else(tmp_path):
    seen = []

    def look(stream):
        seen.extend(path for path in tmp_path.rglob("*") if path.is_file())

    files.write(tmp_path / "a" / "x.npy", look)
    (left,) = seen
    left.touch()
    files.sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "x.npy"]


def test_the_checksum_is_the_published_one(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert files.sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
