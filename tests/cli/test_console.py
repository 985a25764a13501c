"""Lines of several processes in one terminal."""

import io

from hypothesis import given
from hypothesis import strategies as st

from cli.console import LONGEST_LINE_BYTES, Console, Lines


@given(st.lists(st.text("ab é\r", max_size=8), max_size=5), st.text("abc", max_size=3), st.data())
def test_lines_are_the_same_however_the_bytes_arrive(lines, rest, data):
    whole = "".join(line + "\n" for line in lines).encode() + rest.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]

    reader = Lines()
    found = [line for piece in pieces for line in reader.feed(piece)] + reader.close()

    assert found == [line.rstrip("\r") for line in lines] + ([rest] if rest else [])


def test_a_line_without_end_is_cut():
    reader = Lines()
    assert reader.feed(b"x" * (LONGEST_LINE_BYTES + 1)) == ["x" * (LONGEST_LINE_BYTES + 1)]
    assert reader.close() == []


def test_every_line_carries_the_name_of_its_process():
    stream = io.StringIO()
    Console(stream).write("api", "one\ntwo")
    assert stream.getvalue() == "api    │ one\napi    │ two\n"


def test_without_a_name_a_line_can_be_copied_as_it_is():
    stream = io.StringIO()
    Console(stream).write("", "curl http://host")
    assert stream.getvalue() == "curl http://host\n"


def test_only_a_terminal_gets_colours_one_for_each_process():
    stream = io.StringIO()
    console = Console(stream, coloured=True)
    console.write("api", "one")
    console.write("llm", "two")
    assert stream.getvalue() == "\x1b[36mapi    │ \x1b[0mone\n\x1b[32mllm    │ \x1b[0mtwo\n"


def test_a_reader_that_left_does_not_end_the_writer():
    stream = io.StringIO()
    stream.close()
    Console(stream, coloured=False).write("api", "nobody reads this")
