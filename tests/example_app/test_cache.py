import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from example_app.cache.sqlite_cache import SqliteCache
from example_app.gateway import nonces

ADD = """
import sys
from pathlib import Path
from example_app.cache.sqlite_cache import SqliteCache
cache = SqliteCache(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
print(sum(cache.add(f"nonce{number}", 1) for number in range(300)))
"""


def test_values_come_back_until_their_time_is_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("time.time", lambda: now)
    with closing(SqliteCache(tmp_path / "cache.db", default_timeout=10)) as cache:
        assert cache.get("a") is None
        assert cache.set("a", {"x": [1, "é", None]})
        assert cache.get("a") == {"x": [1, "é", None]}
        assert cache.add("b", 1, timeout=5)
        assert not cache.add("b", 2, timeout=5)
        assert cache.get("b") == 1
        now = 1005.0
        assert cache.get("b") is None
        assert cache.add("b", 3)
        assert cache.get_many("a", "b") == [{"x": [1, "é", None]}, 3]
        now = 1010.0
        assert not cache.has("a")
        assert cache.has("b")
        assert cache.delete("b")
        assert not cache.delete("b")
        assert cache.set("c", 1)
        assert cache.clear()
        assert cache.get("c") is None


def test_what_is_over_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("time.time", lambda: now)
    with closing(SqliteCache(tmp_path / "cache.db", default_timeout=10)) as cache:
        for number in range(999):
            cache.set(f"a{number}", 1)
        now = 2000.0
        cache.set("b", 1)
        count = cache._connection.execute("SELECT count(*) FROM cache").fetchone()
        assert count == (1,)


def test_of_several_processes_that_add_a_key_one_succeeds(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ADD, str(tmp_path / "cache.db")]
    adding = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for process in adding:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    with ThreadPoolExecutor(4) as pool:
        added = [int(out) for out, _ in pool.map(lambda it: it.communicate("\n", 30), adding)]

    assert sum(added) == 300


def test_a_nonce_is_used_once(tmp_path: Path) -> None:
    with closing(SqliteCache(tmp_path / "cache.db")) as cache:
        nonces.use(cache, "nonce-0001", b"body")
        with pytest.raises(nonces.Replayed, match="this very body"):
            nonces.use(cache, "nonce-0001", b"body")
        with pytest.raises(nonces.Replayed, match="another body"):
            nonces.use(cache, "nonce-0001", b"body ")
        nonces.use(cache, "nonce-0002", b"body")


@pytest.mark.parametrize("nonce", [None, "", "short", "x" * 129, "white space", "é" * 9])
def test_what_is_no_nonce_is_refused(tmp_path: Path, nonce: str | None) -> None:
    with closing(SqliteCache(tmp_path / "cache.db")) as cache, pytest.raises(nonces.BadNonce):
        nonces.use(cache, nonce, b"body")
