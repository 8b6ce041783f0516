"""Runs in one process: every picture has one result or one dead letter, whatever ended the run before."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from focus_detr.batch.blocks import Block
from focus_detr.batch.finishing import finish
from focus_detr.batch.inputs import Listing
from focus_detr.batch.ledger import Ledger
from focus_detr.batch.run import begun, finished, run_here
from focus_detr.batch.working import Worker
from focus_detr.errors import FocusDetrError
from focus_detr.inference.predictor import Predictor
from helpers.batches import (
    content,
    fake_predictor,
    fake_work,
    json_lines,
    letters,
    paths,
    results,
    run,
    write_pictures,
    write_shard,
)
from helpers.fake_detector import FakeModel, picture, plain_processor

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def test_every_picture_of_a_folder_has_its_result_in_order(tmp_path: Path) -> None:
    names = write_pictures(tmp_path / "in", 5)
    summary = run([tmp_path / "in"], tmp_path / "out")
    assert paths(tmp_path / "out") == names
    assert summary == {
        "pictures": 5,
        "detected": 5,
        "dead": 0,
        "dead_by_kind": {},
        "objects": 5,
        "blocks": 3,
    }


def test_results_are_those_of_predict_to_the_bit(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, image in (("a", picture(red=(4, 4, 20, 12))), ("b", picture(90, 70, green=(5, 5, 33, 44)))):
        image.save(tmp_path / "in" / f"{name}.png")
    run([tmp_path / "in"], tmp_path / "out", formats=["parquet", "json", "coco"])
    expected = list(fake_predictor().predict(str(tmp_path / "in"), batch_size=2))
    assert json_lines(tmp_path / "out/detections.jsonl") == [each.to_dict() for each in expected]
    rows = [{k: v for k, v in row.items() if v is not None} for row in results(tmp_path / "out")]
    assert rows == [each.to_dict() for each in expected]
    entries = json.loads((tmp_path / "out/detections.coco.json").read_text())
    assert [(each["file_name"], each["category_id"]) for each in entries] == [
        (str(tmp_path / "in/a.png"), 0),
        (str(tmp_path / "in/b.png"), 1),
    ]


def test_a_run_at_a_setting_finds_what_predict_finds_at_it(tiny_model: Path, tmp_path: Path) -> None:
    write_pictures(tmp_path / "in", 2)
    model = Predictor.from_pretrained(tiny_model, device="cpu")
    model.model.config.settings = {"fast": {"size": {"height": 32, "width": 48}, "budget": 0.2}}
    run([tmp_path / "in"], tmp_path / "out", formats=["json"], predictor=model, setting="fast", threshold=0.0)
    found = json_lines(tmp_path / "out/detections.jsonl")
    expected = model.at("fast").predict(str(tmp_path / "in"), batch_size=2, threshold=0.0)
    assert found == [each.to_dict() for each in expected]
    assert found != [each.to_dict() for each in model.predict(str(tmp_path / "in"), threshold=0.0)]
    with pytest.raises(FocusDetrError, match="slow"):
        Worker(fake_work(tmp_path / "other", setting="slow"), model)
    with pytest.raises(FocusDetrError, match="decoder_layers=7"):
        Worker(fake_work(tmp_path / "other", decoder_layers=7), model)


def test_bad_pictures_are_dead_letters_by_kind(tmp_path: Path) -> None:
    names = write_pictures(tmp_path / "in", 4)
    Path(names[1]).write_bytes(b"no picture")
    Path(names[2]).write_bytes(content(picture(2000, 1000)))
    (tmp_path / "in/folder.png").mkdir()
    table = {"path": [*names, f"{tmp_path}/gone.png", None]}
    parquet.write_table(pa.table(table), tmp_path / "t.parquet")
    summary = run([tmp_path / "t.parquet"], tmp_path / "out", max_megapixels=1)
    assert paths(tmp_path / "out") == [names[0], names[3]]
    assert letters(tmp_path / "out") == {
        names[1]: "undecodable",
        names[2]: "too large",
        f"{tmp_path}/gone.png": "missing",
        f"{tmp_path}/t.parquet#row=5": "missing",
    }
    assert summary["dead_by_kind"] == {"missing": 2, "undecodable": 1, "too large": 1}


def test_pictures_in_a_table_have_their_rows_for_names(tmp_path: Path) -> None:
    values = [content(), b"junk", None, content()]
    parquet.write_table(pa.table({"image": values}), tmp_path / "t.parquet", row_group_size=1)
    run([tmp_path / "t.parquet"], tmp_path / "out")
    name = f"{tmp_path}/t.parquet#row="
    assert paths(tmp_path / "out") == [f"{name}0", f"{name}3"]
    assert letters(tmp_path / "out") == {f"{name}1": "undecodable", f"{name}2": "missing"}


def test_a_table_that_is_gone_by_then_leaves_a_letter_for_each_row(tmp_path: Path) -> None:
    values = [content()] * 3
    parquet.write_table(pa.table({"image": values}), tmp_path / "t.parquet")
    work = fake_work(tmp_path / "out")
    with begun(Listing([str(tmp_path / "t.parquet")]), work, ["parquet"], {}) as started:
        (tmp_path / "t.parquet").unlink()
        assert [done.dead for done in run_here(work, started, fake_predictor())] == [3]
        finish(started.ledger, ["parquet"])
    assert set(letters(tmp_path / "out").values()) == {"missing"}


def test_what_a_run_writes_names_files_from_where_it_ran(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = write_pictures(Path("in"), 3)
    Path(names[1]).write_bytes(b"no picture")
    run(["in"], "outputs/first")
    assert list(letters(Path("outputs/first"))) == [names[1]] == ["in/0001.png"]
    Path(names[1]).write_bytes(content())
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    run([tmp_path / "outputs/first/dead-letters.parquet"], "again", column="path")
    assert paths(Path("again")) == [str(tmp_path / names[1])]
    run([tmp_path / "outputs/first/detections"], "all", column="path")
    assert paths(Path("all")) == [str(tmp_path / names[0]), str(tmp_path / names[2])]


def test_shards_are_read_member_by_member(tmp_path: Path) -> None:
    members = {"a.png": content(), "a.json": b"{}", "a.mask.png": content(), "b.png": b"junk"}
    write_shard(tmp_path / "s.tar", members)
    run([tmp_path / "s.tar"], tmp_path / "out")
    shard = f"{tmp_path}/s.tar"
    assert paths(tmp_path / "out") == [f"{shard}/a.png", f"{shard}/a.mask.png"]
    assert letters(tmp_path / "out") == {f"{shard}/b.png": "undecodable"}
    run([tmp_path / "s.tar"], tmp_path / "png", column="png")
    assert paths(tmp_path / "png") == [f"{shard}/a.png"]


def test_a_shard_cut_short_keeps_what_was_read_and_says_so(tmp_path: Path) -> None:
    shard = tmp_path / "s.tar"
    write_shard(shard, {f"{number}.png": content() for number in range(4)})
    shard.write_bytes(shard.read_bytes()[:2200])
    run([shard], tmp_path / "out")
    assert paths(tmp_path / "out")
    assert letters(tmp_path / "out")[str(shard)] == "archive"


def test_a_store_is_read_and_written(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    store = fsspec.filesystem("memory")
    for number in range(3):
        store.pipe_file(f"/batch-in/{number}.png", content())
    store.pipe_file("/batch-in/3.png", b"junk")
    run(["memory://batch-in"], "memory://batch-out", formats=["parquet", "json"])
    for file in store.find("/batch-out"):
        target = tmp_path / file.removeprefix("/batch-out/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(store.cat_file(file))
    store.rm("/batch-out", recursive=True)
    store.rm("/batch-in", recursive=True)
    assert paths(tmp_path) == [f"memory:///batch-in/{number}.png" for number in range(3)]
    assert list(letters(tmp_path)) == ["memory:///batch-in/3.png"]
    assert len(json_lines(tmp_path / "detections.jsonl")) == 3


class Ended(BaseException):
    """As if the process had ended."""


class FailingModel(FakeModel):
    """Ends after some batches."""

    def __init__(self, batches: int) -> None:
        super().__init__()
        self._left = batches

    def forward(self, *inputs, **more):
        if not self._left:
            raise Ended
        self._left -= 1
        return super().forward(*inputs, **more)


@pytest.mark.parametrize("batches", [0, 1, 2, 3])
def test_a_run_goes_on_where_it_ended(batches: int, tmp_path: Path) -> None:
    names = write_pictures(tmp_path / "in", 7)
    with pytest.raises(Ended):
        predictor = Predictor(FailingModel(batches), plain_processor())
        run([tmp_path / "in"], tmp_path / "out", predictor=predictor, batch_size=2)
    done = Ledger(fake_work(tmp_path / "out").output).done()
    assert done == set(range(batches))
    again = fake_predictor()
    run([tmp_path / "in"], tmp_path / "out", predictor=again, batch_size=2)
    assert paths(tmp_path / "out") == names
    assert sum(again.model.batch_sizes) == len(names) - 2 * batches


def test_a_run_goes_on_with_the_pictures_that_there_were(tmp_path: Path) -> None:
    names = write_pictures(tmp_path / "in", 3)
    with pytest.raises(Ended):
        run([tmp_path / "in"], tmp_path / "out", predictor=Predictor(FailingModel(1), plain_processor()))
    write_pictures(tmp_path / "in", 5)
    run([tmp_path / "in"], tmp_path / "out")
    assert paths(tmp_path / "out") == names


def test_another_question_is_refused(tmp_path: Path) -> None:
    write_pictures(tmp_path / "in", 3)
    with pytest.raises(Ended):
        predictor = Predictor(FailingModel(1), plain_processor())
        run([tmp_path / "in"], tmp_path / "out", predictor=predictor, choices={"--budget": 0.3})
    with pytest.raises(FocusDetrError, match=r"--budget: 0.5 .* 0.3"):
        run([tmp_path / "in"], tmp_path / "out", choices={"--budget": 0.5})


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    names = write_pictures(tmp_path / "in", 1)
    with pytest.raises(FocusDetrError, match="no run to go on with"):
        run(names, tmp_path / "in")


def test_two_processes_do_not_share_a_run(tmp_path: Path) -> None:
    write_pictures(tmp_path / "in", 1)
    listing, work = Listing([str(tmp_path / "in")]), fake_work(tmp_path / "out")
    with begun(listing, work, ["parquet"], {}):
        with pytest.raises(FocusDetrError, match="another run writes there"):
            run([tmp_path / "in"], tmp_path / "out")


@pytest.mark.parametrize("where", ["first output", "letters", "summary"])
def test_the_merging_may_end_anywhere_and_be_begun_again(where: str, tmp_path: Path, monkeypatch) -> None:
    from focus_detr.batch import finishing

    names = write_pictures(tmp_path / "in", 5)
    Path(names[2]).write_bytes(b"junk")
    place = {"first output": "_Tables.add", "letters": "_Table.write", "summary": "clear"}[where]
    calls = 0

    def ending(*_):
        nonlocal calls
        calls += 1
        raise Ended

    with monkeypatch.context() as patch:
        patch.setattr(f"{finishing.__name__}.{place}", ending)
        with pytest.raises(Ended):
            run([tmp_path / "in"], tmp_path / "out")
    assert calls == 1
    run([tmp_path / "in"], tmp_path / "out")
    assert paths(tmp_path / "out") == names[:2] + names[3:]
    assert list(letters(tmp_path / "out")) == [names[2]]
    ledger = Ledger(fake_work(tmp_path / "out").output)
    assert finished(ledger) and not ledger.parts.exists()


def test_a_part_that_lost_pictures_is_found_out(tmp_path: Path) -> None:
    from focus_detr.batch.rows import part_of

    write_pictures(tmp_path / "in", 4)
    work = fake_work(tmp_path / "out")
    with begun(Listing([str(tmp_path / "in")], 2), work, ["parquet"], {}) as started:
        for _ in run_here(work, started, fake_predictor()):
            pass
        with pytest.raises(FocusDetrError, match="holds 0 pictures of the 2 of block 1"):
            started.ledger.part(1).write(part_of([], {}))
            finish(started.ledger, ["parquet"])
        started.ledger.part(1).remove()
        with pytest.raises(FocusDetrError, match="block 1 cannot be read"):
            finish(started.ledger, ["parquet"])
        assert finished(started.ledger) is None


def test_a_block_that_cannot_be_reached_at_all_is_not_done(tmp_path: Path, monkeypatch) -> None:
    def unreachable(*_) -> None:
        raise ConnectionError("no route")

    names = write_pictures(tmp_path / "in", 2)
    with monkeypatch.context() as patch:
        patch.setattr("focus_detr.batch.reading._file", unreachable)
        with pytest.raises(FocusDetrError, match="no route.*run the same command again"):
            run([tmp_path / "in"], tmp_path / "out")
    run([tmp_path / "in"], tmp_path / "out")
    assert paths(tmp_path / "out") == names


def test_a_store_that_is_not_known_here_is_no_fault_of_the_pictures(tmp_path: Path) -> None:
    """Else a run without the package of its store would end well, with a dead letter for each picture."""
    parquet.write_table(pa.table({"path": [f"nosuch://b/{n}.png" for n in range(2)]}), tmp_path / "t.parquet")
    with pytest.raises(FocusDetrError, match="no place that can be read here.*run the same command again"):
        run([tmp_path / "t.parquet"], tmp_path / "out")
    assert not list((tmp_path / "out").rglob("parts/*/*"))


def worker_of(output: Path, **options) -> Worker:
    return Worker(fake_work(output, **options), fake_predictor())


def test_a_picture_over_which_processes_end_becomes_a_dead_letter(tmp_path: Path, monkeypatch) -> None:
    """What a process that ended leaves behind is what an attempt writes before it looks."""
    from focus_detr.batch import working

    names = write_pictures(tmp_path / "in", 3)
    usual = working.read

    def deadly(item, *more):
        if item.name == names[1]:
            raise Ended
        return usual(item, *more)

    monkeypatch.setattr(working, "read", deadly)
    monkeypatch.setattr("focus_detr.batch.ledger.Attempts.take_back", lambda self: None)
    attempts = 0
    while True:
        attempts += 1
        try:
            (done,) = worker_of(tmp_path / "out").run([(0, Block.of_files(names))])
            break
        except Ended:
            assert attempts < 10
    assert attempts == 6
    assert (done.pictures, done.dead) == (3, 1)
    ledger = Ledger(fake_work(tmp_path / "out").output)
    rows = parquet.read_table(ledger.part(0).name).to_pylist()
    assert [(row["path"], row["kind"]) for row in rows] == [
        (names[0], None),
        (names[1], "deadly"),
        (names[2], None),
    ]
    assert not ledger.begun.files()


def test_interruptions_are_no_deaths(tmp_path: Path) -> None:
    names = write_pictures(tmp_path / "in", 2)
    for _ in range(5):
        worker = Worker(fake_work(tmp_path / "out"), Predictor(FailingModel(0), plain_processor()))
        with pytest.raises(Ended):
            list(worker.run([(0, Block.of_files(names))]))
    assert not Ledger(fake_work(tmp_path / "out").output).begun.files()


def test_pictures_in_memory_are_bounded_however_large_the_block(tmp_path: Path, monkeypatch) -> None:
    from focus_detr.batch import working

    alive = most = 0
    usual = working.Worker._read

    def counted(self, chunk):
        nonlocal alive, most
        alive += 1
        most = max(most, alive)
        return usual(self, chunk)

    class SlowModel(FakeModel):
        def forward(self, *inputs, **more) -> object:
            nonlocal alive
            import time

            time.sleep(0.01)
            alive -= 1
            return super().forward(*inputs, **more)

    monkeypatch.setattr(working.Worker, "_read", counted)
    members = {f"{number}.png": content() for number in range(60)}
    write_shard(tmp_path / "s.tar", members)
    worker = Worker(
        fake_work(tmp_path / "out", batch_size=2, readers=2), Predictor(SlowModel(), plain_processor())
    )
    (done,) = worker.run([(0, Block("shard", source=str(tmp_path / "s.tar")))])
    assert done.pictures == 60
    assert 2 <= most <= 2 * 2 + 2


def blocks_of(names: list[str]) -> Iterator[tuple[int, Block]]:
    for number, name in enumerate(names):
        yield number, Block.of_files([name])


def test_reading_goes_on_from_block_to_block_while_the_model_works(tmp_path: Path, monkeypatch) -> None:
    from focus_detr.batch import working

    begun_reading: list[str] = []
    usual = working.read

    def noted(item, *more):
        begun_reading.append(item.name)
        return usual(item, *more)

    monkeypatch.setattr(working, "read", noted)
    names = write_pictures(tmp_path / "in", 6)
    run_of_blocks = worker_of(tmp_path / "out", readers=1).run(blocks_of(names))
    assert next(run_of_blocks).block == 0
    import time

    until = time.monotonic() + 10
    while len(begun_reading) < 3 and time.monotonic() < until:
        time.sleep(0.01)
    assert len(begun_reading) >= 3
    run_of_blocks.close()


def test_pictures_of_the_web_are_downloaded_and_the_gone_are_dead_letters(tmp_path: Path) -> None:
    from helpers.file_server import File, serving

    with serving() as server:
        server.files["a.png"] = File(content())
        urls = [server.url + name for name in ("a.png", "gone.png", "gone2.png")]
        parquet.write_table(pa.table({"url": urls}), tmp_path / "t.parquet")
        run([tmp_path / "t.parquet"], tmp_path / "out", block_size=1)
        run([tmp_path / "t.parquet"], tmp_path / "out2", block_size=3)
    assert paths(tmp_path / "out") == paths(tmp_path / "out2") == urls[:1]
    assert letters(tmp_path / "out") == dict.fromkeys(urls[1:], "unreachable")
