"""What each record tells of the round that it was written in: with it the topics alone prove what came of what."""


def round_header(
    inbound: tuple[int, int], outbound: tuple[int, int], clock_ms: tuple[int, int], ends: tuple[int, int, int] | None
) -> tuple[str, bytes]:
    """Tell of a round, on each record of it: what it took of both inputs (offsets) and its clock, each from and to.

    `ends`: the ends of both inputs and when they were noted (wall clock), where they were asked for. Whoever knows this
    of all rounds can say what must have come of them, also where the wall clock moved time on (`janela verify`). It is
    written as distances, since it stands on each record: `schemas/README.md` has the form.
    """
    spans = (inbound, outbound, clock_ms)
    if ends is None:
        text = " ".join(f"{start}+{to - start}" for start, to in spans)
    else:
        text = " ".join(f"{start}+{to - start}/{end - to}" for (start, to), end in zip(spans, ends, strict=True))
    return "janela-round", text.encode()
