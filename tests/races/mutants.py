"""Mutants of the core: every small change to its headers, by rule, and which test notices it.

    python tests/races/mutants.py [--list] [--jobs N] [NAME...]

A mutant is named by what was changed: file:function:rule:ordinal in that function. A change of
logic meets core_units.c, the explorer and the hostile sweep, in the order of what they cost,
until one of them fails. A weaker order meets the explorer in weak memory, since the processor
of whoever runs this may be stronger than C. EQUIVALENT says of each survivor why nothing could
notice it.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))  # as a command: what the tests share

from test_explorer import CORE, HERE, HUNT, PAIRS, WEAK, sources

FAULTS = HERE.parent / "faults"
FILES = ("word", "ring", "slot", "share", "commit", "reap", "freemap", "wait", "member", "pool")

# --- making them --------------------------------------------------------------------------


@dataclass(frozen=True)
class Mutant:
    """One change: bytes `start` to `end` of a file are `text` instead."""

    name: str
    start: int
    end: int
    text: str

    @property
    def file(self) -> str:
        """Which header."""
        return self.name.split(":")[0]

    @property
    def rule(self) -> str:
        """By which rule."""
        return self.name.split(":")[2]

    @property
    def is_order(self) -> bool:
        """Whether only a memory order is weaker."""
        return self.rule.startswith("order-")

    def applied(self) -> str:
        """The header with the change."""
        text = original(self.file)
        return text[: self.start] + self.text + text[self.end :]

    def lines(self) -> tuple[str, str]:
        """The line that is changed, before and after; several lines are joined."""
        text = original(self.file)
        first, last = text.rfind("\n", 0, self.start) + 1, text.find("\n", self.end)
        after = text[first : self.start] + self.text + text[self.end : last]
        return " ".join(text[first:last].split()), " ".join(after.split())


Edit = tuple[int, int, str]


@cache
def original(file: str) -> str:
    """A header as it ships."""
    return (CORE / file).read_text()


def without_comments(text: str) -> str:
    """The same length, so that places stay what they are."""
    blank = re.compile(r"/\*.*?\*/", re.DOTALL)
    return blank.sub(lambda comment: re.sub(r"[^\n]", " ", comment[0]), text)


def functions(text: str) -> Iterator[tuple[str, int, int]]:
    """Name of each function, and where its body begins and ends."""
    head = r"^static inline [^\n;{}]*?\b(\w+)\((?:[^;{}]*?)\)\n\{\n(.*?)^\}"
    for match in re.finditer(head, text, re.MULTILINE | re.DOTALL):
        yield match[1], match.start(2), match.end(2)


def closing(text: str, at: int) -> int:
    """Where the parenthesis that opens at `at` closes."""
    depth = 0
    for i in range(at, len(text)):
        depth += (text[i] in "([") - (text[i] in ")]")
        if not depth:
            return i
    raise ValueError(text[at:])


def arguments(text: str, at: int) -> list[str]:
    """What stands between the parentheses that open at `at`, comma by comma."""
    inside, parts, depth = text[at + 1 : closing(text, at)], [""], 0
    for character in inside:
        depth += (character in "([") - (character in ")]")
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def dropped_calls(body: str) -> Iterator[Edit]:
    """Every statement that is a bare call: help, hints, counters, fences."""
    for match in re.finditer(r"(?<=[;{})\n])\s*(sp_\w+)\(", body):
        end = closing(body, match.end() - 1) + 1
        if body[end] == ";" and body[: match.start(1)].rstrip()[-1:] in {"", *";{})"}:
            yield match.start(1), end, ""


def dropped_assignments(body: str) -> Iterator[Edit]:
    """Every statement that changes a variable which there is already."""
    place = r"^ +(\*?[a-z]\w*(?:(?:->|\.)\w+|\[[^\]\n]+\])* [-+|&]?= [^;]*);"
    for match in re.finditer(place, body, re.MULTILINE):
        yield match.start(1), match.end(1), ""


def conditions(body: str, value: str) -> Iterator[Edit]:
    """Every if, always one way."""
    for match in re.finditer(r"\bif \(", body):
        yield match.end(), closing(body, match.end() - 1), value


def chains(body: str) -> Iterator[tuple[int, int]]:
    """From where to where each expression goes, at each depth of parentheses."""
    boundary = re.compile(r"[;,{}?:]|\breturn\b|(?<![=!<>])=(?!=)")
    starts = [0]
    for match in re.finditer(r"[(\[)\]]|" + boundary.pattern, body):
        if match[0] in "([":
            starts.append(match.end())
            continue
        yield starts[-1], match.start()
        if match[0] in ")]":
            starts.pop()
        else:
            starts[-1] = match.end()


def split_at(body: str, start: int, end: int, operator: str) -> list[tuple[int, int]]:
    """The operands of a chain, not looking into parentheses."""
    parts, depth, at = [], 0, start
    for i in range(start, end):
        depth += (body[i] in "([") - (body[i] in ")]")
        if not depth and body.startswith(operator, i):
            parts.append((at, i))
            at = i + len(operator)
    return [*parts, (at, end)]


def dropped_operands(body: str) -> Iterator[Edit]:
    """Every operand of && and ||."""
    for start, end in chains(body):
        for_or = split_at(body, start, end, "||")
        for operands in (for_or, *(split_at(body, *part, "&&") for part in for_or)):
            if len(operands) == 1:
                continue
            for i, (first, last) in enumerate(operands):
                yield (first, last + 2, " ") if i == 0 else (first - 2, last, "")


def winning_cas(body: str) -> Iterator[Edit]:
    """A compare-and-swap that says it has won, whatever it did."""
    for match in re.finditer(r"\bsp_cas_\w+\(", body):
        end = closing(body, match.end() - 1) + 1
        if body[end] != ";" or body[: match.start()].rstrip()[-1:] not in {"", *";{})"}:
            yield match.start(), end, f"({body[match.start() : end]} || true)"


def blind_cas(body: str) -> Iterator[Edit]:
    """A compare-and-swap that swaps and does not compare."""
    for match in re.finditer(r"\bsp_cas_\w+\(", body):
        at, _, desired = arguments(body, match.end() - 1)
        end = closing(body, match.end() - 1) + 1
        yield match.start(), end, f"sp_overwrite({at}, {desired})"


def comparisons(body: str) -> Iterator[Edit]:
    """Every comparison: its edge, or its sense."""
    other = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "=="}
    for match in re.finditer(r" (<|<=|>|>=|==|!=) ", body):
        yield match.start(1), match.end(1), other[match[1]]


def numbers(body: str, by: int) -> Iterator[Edit]:
    """Every number, one more or less: generations, steps, shifts, indices, widths."""
    for match in re.finditer(r"(?<![\w.])(0x[0-9a-f]+|\d+)(u?)\b", body):
        if int(match[1], 0) + by >= 0:
            yield match.start(), match.end(), f"{int(match[1], 0) + by}{match[2]}"
    for match in re.finditer(r"\b(SP_GENERATION_MAX|SP_MASK_WORDS|SP_MAX_READERS)\b", body):
        yield match.start(), match.end(), f"({match[0]} {'-+'[by > 0]} 1)"


def dropped_masks(body: str) -> Iterator[Edit]:
    """Every bitwise `and`."""
    for match in re.finditer(r" & (?:~?\w+(?:\(\w*\)\w*)?|-\w+)", body):
        yield match.start(), match.end(), ""


def weaker(body: str, to: str) -> Iterator[Edit]:
    """Every memory order, as far down as explore_hooks.h knows it."""
    there = (HERE / "explore_hooks.h").read_text()
    order = ("relaxed", "acquire", "release", "acq_rel", "seq_cst")
    for match in re.finditer(r"\b(sp_(?:load|store|cas|fetch_\w+?))_([a-z_]+?)(?=\()", body):
        name = f"{match[1]}_{to}"
        if f"({name}," in there and order.index(match[2]) > order.index(to):
            yield match.start(), match.end(), name


RULES = {
    "drop-call": dropped_calls,
    "drop-assignment": dropped_assignments,
    "if-never": lambda body: conditions(body, "false"),
    "if-always": lambda body: conditions(body, "true"),
    "drop-operand": dropped_operands,
    "cas-wins": winning_cas,
    "cas-blind": blind_cas,
    "compare": comparisons,
    "one-more": lambda body: numbers(body, 1),
    "one-less": lambda body: numbers(body, -1),
    "drop-mask": dropped_masks,
    "order-acq_rel": lambda body: weaker(body, "acq_rel"),
    "order-acquire": lambda body: weaker(body, "acquire"),
    "order-relaxed": lambda body: weaker(body, "relaxed"),
}


def mutants_of(file: str) -> Iterator[Mutant]:
    """All of one header."""
    text = without_comments(original(file))
    for function, start, end in functions(text):
        for rule, edits in RULES.items():
            for ordinal, (first, last, new) in enumerate(sorted(edits(text[start:end])), 1):
                name = f"{file}:{function}:{rule}:{ordinal}"
                yield Mutant(name, start + first, start + last, new)


@cache
def mutants() -> dict[str, Mutant]:
    """All of them, by name."""
    every = [mutant for file in FILES for mutant in mutants_of(f"sp_{file}.h")]
    return {mutant.name: mutant for mutant in every}


def sample(every: int) -> list[Mutant]:
    """The same ones in each run, and of other functions mostly the same when one changes."""
    return [m for m in mutants().values() if zlib.crc32(m.name.encode()) % every == 0]


# --- running them -------------------------------------------------------------------------

# What a compare-and-swap that does not compare is, in each world.
OVERWRITE = "static inline bool sp_overwrite(sp_atomic_u64 *at, uint64_t desired)"
OVERWRITE_HERE = f"{OVERWRITE}\n{{ sp_store_release(at, desired); return true; }}\n"
OVERWRITE_THERE = (
    "bool explore_overwrite(sp_atomic_u64 *at, uint64_t value);\n"
    f"{OVERWRITE}\n{{ return explore_overwrite(at, desired); }}\n"
)
# The orders that the core does not use, for real atomics.
WEAKER_HERE = """
static inline bool sp_cas_relaxed(sp_atomic_u64 *at, uint64_t expected, uint64_t desired)
{
    return atomic_compare_exchange_strong_explicit(at, &expected, desired, memory_order_relaxed,
                                                   memory_order_relaxed);
}

static inline uint64_t sp_fetch_or_acq_rel(sp_atomic_u64 *at, uint64_t bits)
{
    return atomic_fetch_or_explicit(at, bits, memory_order_acq_rel);
}

static inline uint64_t sp_fetch_and_acq_rel(sp_atomic_u64 *at, uint64_t bits)
{
    return atomic_fetch_and_explicit(at, bits, memory_order_acq_rel);
}
"""
EXPLORE_OVERWRITE = """
bool explore_overwrite(sp_atomic_u64 *at, uint64_t value)
{
    Location *location = visible(at, true);
    uint64_t before = *at;
    if (location && scenario.stale) {
        take(location, location->count - 1, SEQ_CST);
        append(location, value, SEQ_CST, true);
    }
    note("overwrites", at, before, value, 0);
    *at = value;
    ghost_word(at, before, value);
    return true;
}
"""

# In the order of how many mutants each finds in how long.
QUEUED = [pair for pair in PAIRS if "g" in pair.split("queued")[0]]
SCENARIOS = [
    "g grapgrapgrapap queued=1 preempt=1",  # a getter is slow, and the ring turns
    "g grapgrapgrapgrapap queued=1 preempt=2",
    *(f"{scenario} stale=2 preempt=2" for scenario in WEAK),
    *(f"{scenario} kills=1 preempt=1" for scenario in PAIRS),
    *(f"{scenario} {policy} kills=1 preempt=1"
      for policy in ("death=1", "death=2", "attempts=1") for scenario in QUEUED[::3]),
    *(scenario for scenario in HUNT[:3]),
]  # fmt: skip
# Rings that have turned: a cell is dead because of its age, or because its ticket is gone.
LAPS = (
    "ap gp g slots=F",
    "p gp g before=a slots=F lap=3",
    "p gp gp before=a slots=F",
    "p gap before=a",
    "ap gr lap=7",
    "ap apgr lap=3",
    "aap gr lap=3",
    "ap gr gr lap=3",
    "ap ap gr lap=3",
    "g g queued=1 lap=3",
    "ap ap G",
    "ap ap lap=3",
    "gp gp queued=2 lap=3",
)
ORDERS = [
    *(f"{scenario} stale=2 preempt=2" for scenario in LAPS),
    *(f"{scenario} stale=3 preempt=2" for scenario in WEAK),
    *(f"{scenario} stale=2 preempt=3" for scenario in WEAK),
    *(f"{scenario} stale=1 preempt=1 kills=1" for scenario in (*WEAK, *PAIRS[::5])),
]
# Of processor time, and then it hangs: ten times what the sound core needs, or more.
SECONDS = {"units": 10, "explorer": 100, "sweep": 60, "weak memory": 100, "threads": 400}
THREAD_OPERATIONS = "8000000"  # of each
SWEEP = ("64", "13")  # between the tables; every 13th byte


@dataclass(frozen=True)
class Place:
    """A folder in which one mutant is compiled and run."""

    folder: Path

    @property
    def headers(self) -> Path:
        """The core's."""
        return self.folder / "headers"

    @property
    def parts(self) -> Path:
        """The explorer's."""
        return self.folder / "parts"


def copy_sound(folder: Path) -> Place:
    """Headers and explorer as they are, and what mutants need besides."""
    place = Place(folder)
    place.headers.mkdir()
    place.parts.mkdir()
    for header in CORE.glob("sp_*.h"):
        shutil.copy(header, place.headers)
    for part in sources():
        shutil.copy(part, place.parts)
    atomics = place.headers / "sp_atomic.h"
    end = "#endif /* SP_ATOMIC_HOOKS */"
    atomics.write_text(atomics.read_text().replace(end, OVERWRITE_HERE + WEAKER_HERE + end))
    hooks = place.parts / "explore_hooks.h"
    end = "#endif\n"
    hooks.write_text(hooks.read_text().removesuffix(end) + OVERWRITE_THERE + end)
    with (place.parts / "explore_memory.c").open("a") as memory:
        memory.write(EXPLORE_OVERWRITE)
    return place


def compile_to(program: Path, compiler: str, *options: str) -> bool:
    """Whether it compiles; warnings are the mutant's own affair."""
    command = [compiler, "-std=gnu11", "-w", "-Werror=implicit-function-declaration"]
    command += [*options, "-o", str(program)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def build_units(place: Place) -> Path | None:
    """core_units.c over the headers of a place; None if that is no C."""
    program = place.folder / "units"
    options = ["-O0", "-fsanitize=shift,bounds", "-fsanitize-trap=all", f"-I{place.headers}"]
    return program if compile_to(program, "clang", *options, str(HERE / "core_units.c")) else None


MUTATED = "explore_script.c"  # what the members and the reaper do


def explorer_options(place: Place) -> list[str]:
    """How every part of it is compiled."""
    return ["-U_FORTIFY_SOURCE", f"-I{place.parts}", f"-I{place.headers}"]


def build_judge(place: Place) -> None:
    """The parts that are never over changed headers: whoever judges is sound."""
    for part in place.parts.glob("explore*.c"):
        if part.name != MUTATED:
            options = ["-O2", "-c", *explorer_options(place), str(part)]
            assert compile_to(place.folder / f"{part.stem}.o", "cc", *options), part


def build_explorer(place: Place, sound: Place) -> Path | None:
    """The explorer: a mutant's members, and a sound judge of them."""
    program = place.folder / "explorer"
    options = ["-O1", *explorer_options(place), str(place.parts / MUTATED)]
    judge = map(str, sorted(sound.folder.glob("*.o")))
    return program if compile_to(program, "cc", *options, *judge) else None


def build_sweep(place: Place) -> Path | None:
    """The hostile sweep under sanitizers."""
    program = place.folder / "hostile"
    options = ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    options += [f"-I{FAULTS}", f"-I{place.headers}", str(FAULTS / "hostile.c")]
    return program if compile_to(program, "clang", *options) else None


def build_stress(place: Place) -> Path | None:
    """The threads under their sanitizer.

    It knows of races on payloads that the explorer has not, whose memory keeps the stores to
    each word in the order of execution.
    """
    program = place.folder / "stress"
    options = ["-O1", "-pthread", "-fsanitize=thread", f"-I{place.headers}"]
    return program if compile_to(program, "clang", *options, str(HERE / "stress.c")) else None


def outcome(program: Path, by: str, *arguments: str, scenarios: Iterable[str] = ()) -> str:
    """What killed the mutant: the program, or its having no end; empty if it survives."""
    command = ["prlimit", f"--cpu={SECONDS[by]}", "--core=0", str(program), *arguments]
    done = subprocess.run(
        command, input="\n".join(scenarios), capture_output=True, text=True, check=False,
        errors="replace", cwd=program.parent, env=os.environ | {"ASAN_OPTIONS": "detect_leaks=0"},
    )  # fmt: skip
    if done.returncode in {-9, -24}:  # the limit of processor time
        return f"{by}: no end"
    return by if done.returncode else ""


NOT_C = "not C"
SURVIVES = ""


def fate_of_order(mutant: Mutant, place: Place, sound: Place) -> str:
    """Only weak memory can tell, or a sanitizer which goes by what the standard says."""
    explorer = build_explorer(place, sound)
    if not explorer:
        return NOT_C
    fate = outcome(explorer, "weak memory", scenarios=ORDERS)
    if fate or not mutant.text.startswith(("sp_cas_relaxed", "sp_store_relaxed")):
        return fate  # what threads could see is a payload that was not published
    stress = build_stress(place)
    if not stress:
        return NOT_C
    # They meet it by chance, on one CPU much later than on two: none survives that does not always.
    runs = (outcome(stress, "threads", THREAD_OPERATIONS, str(seed)) for seed in range(1, 11))
    return next(filter(None, runs), SURVIVES)


def fate_of_logic(place: Place, sound: Place) -> str:
    """From the cheapest to the dearest."""
    units = build_units(place)
    if not units:
        return NOT_C
    if fate := outcome(units, "units"):
        return fate
    explorer, sweep = build_explorer(place, sound), build_sweep(place)
    if not explorer or not sweep:
        return NOT_C
    return outcome(explorer, "explorer", scenarios=SCENARIOS) or outcome(sweep, "sweep", *SWEEP)


def fate_of(mutant: Mutant, sound: Place) -> str:
    """What killed it, or empty."""
    with tempfile.TemporaryDirectory() as folder:
        place = copy_sound(Path(folder))
        (place.headers / mutant.file).write_text(mutant.applied())
        if mutant.is_order:
            return fate_of_order(mutant, place, sound)
        return fate_of_logic(place, sound)


def fates(which: Iterable[Mutant], jobs: int) -> Iterator[tuple[Mutant, str]]:
    """Of each, in order."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        sound = copy_sound(Path(folder))
        build_judge(sound)
        chosen = list(which)
        yield from zip(chosen, pool.map(lambda m: fate_of(m, sound), chosen), strict=True)


# --- those that nothing notices -----------------------------------------------------------

# Reason: file, function, rule and ordinals of those that it is true of.
REASONS: dict[str, tuple[str, ...]] = {
    # Logic.
    "a bound that no schedule comes near: any of this size will do": (
        "ring:ring_patience:one-more:1",
        "ring:ring_patience:one-less:1",
    ),
    "after as many wrong bits as slots, each slot was seen not to be free: empty a round sooner": (
        "slot:acquire:compare:1",
        "slot:acquire:one-more:1",
    ),
    "looks a second time at what it has seen, and finds the same or what came meanwhile": (
        "commit:commit_begin:compare:1",
        "freemap:freemap_next:one-less:3",
        "freemap:freemap_take_between:one-less:1",
        "wait:wait_next:one-more:7",
    ),
    "what is not live has the word 0 (or 1), so nobody for an owner, and nobody is not dead": (
        "reap:reap_ring:drop-operand:1",
        "reap:reap_ring:one-more:3",
    ),
    "drains in vain: give_back clears one's own bit only, and another's keeps the slot": (
        "reap:reap_reader:drop-mask:1",
    ),
    "asks for a cache line early: costs time": (
        "ring:ring_try_insert:drop-call:1",
        "ring:ring_try_insert:drop-call:3",
    ),
    "sets a bit that is set: costs a locked instruction": ("freemap:freemap_give:drop-operand:2",),
    "a bit taken from the words after the first one is not bit 0": (
        "freemap:freemap_take:compare:2",
        "freemap:freemap_take:one-more:10",
    ),
    "in a map of one word every start is below 64": ("freemap:freemap_take:drop-mask:2",),
    "where the two are equal, both answers are map->count": ("freemap:freemap_next:compare:2",),
    # Orders. Those of a file that are no bug alone are one together: see TOGETHER.
    "one of several: ends, cells and words are all seq_cst, and what one sees too late the next"
    " one sees": (
        "ring:ring_live:order-acquire:1",
        "ring:ring_live:order-relaxed:1",
        "ring:ring_step_head:order-acq_rel:1",
        "ring:ring_step_head:order-relaxed:1",
        "ring:ring_step_tail:order-acq_rel:1",
        "ring:ring_step_tail:order-acquire:1-3",
        "ring:ring_step_tail:order-relaxed:1-4",
        "ring:ring_head_for:order-acquire:1",
        "ring:ring_head_for:order-relaxed:1",
        "ring:ring_try_insert:order-acq_rel:1-3",
        "ring:ring_try_insert:order-acquire:1-4",
        "ring:ring_try_insert:order-relaxed:1-7",
        "ring:ring_try_claim:order-acq_rel:1-4",
        "ring:ring_try_claim:order-acquire:1-4",
        "ring:ring_try_claim:order-relaxed:1-8",
    ),
    "the compare-and-swap, or the second look, that follows acquires": (
        "slot:slot_try_lease:order-relaxed:1",
        "slot:send:order-relaxed:1",
        "slot:claimable:order-acquire:1",
        "slot:claimable:order-relaxed:1",
        "share:borrow:order-relaxed:1",
        "commit:commit_try:order-relaxed:1",
        "commit:trim_try:order-relaxed:1",
    ),
    "the look before it has acquired, and nothing was written that others have to see": (
        "slot:slot_try_lease:order-relaxed:2",
        "slot:claim:order-relaxed:1",
        "slot:inherit:order-relaxed:1",
        "share:reader_take:order-relaxed:1",
        "commit:commit_try:order-relaxed:2",
        "commit:trim_try:order-relaxed:2",
        "member:member_join:order-relaxed:1",
    ),
    "publishes nothing: there is no memory behind it": ("commit:commit_undo:order-relaxed:1",),
    "acq_rel would do: whoever sleeps looks at ring or free map, which are changed after it": (
        "slot:send:order-acq_rel:1",
        "slot:claim:order-acq_rel:1",
        "share:share:order-acq_rel:1",
        "share:drain:order-acq_rel:1",
        "reap:reap_quarantine:order-acq_rel:1",
        "reap:reap_ring:order-acq_rel:1",
        "reap:reap_queued:order-acq_rel:1",
        "reap:reap_leased:order-acq_rel:1",
    ),
    "the look at the word in sp_drain is seq_cst, and so puts DRAINING before the bits": (
        "share:shared_end:order-acq_rel:1",
    ),
    "clears a bit: who sees it late rings, or looks, in vain": (
        "reap:reap_waiting:order-acq_rel:1-3",
        "wait:wait_end:order-acq_rel:1",
        "wait:wait_next_in:order-acq_rel:1",
        "freemap:freemap_take_in:order-acq_rel:1",
    ),
    "sp_wait_any has looked before, with seq_cst": (
        "wait:wait_next_in:order-acquire:1",
        "wait:wait_next_in:order-relaxed:1",
    ),
    "the summary saves looking: before a class is called empty every word is looked at": (
        "freemap:freemap_give:order-acq_rel:2",
        "freemap:freemap_give:order-acquire:1",
        "freemap:freemap_give:order-relaxed:1",
        "freemap:freemap_note_empty:order-acq_rel:1-2",
        "freemap:freemap_note_empty:order-acquire:1",
        "freemap:freemap_note_empty:order-relaxed:1",
        "freemap:freemap_next:order-acquire:1",
        "freemap:freemap_next:order-relaxed:1",
    ),
    "asked to repair, or to pass on a wake-up: a bit seen late costs another look": (
        "freemap:freemap_any:order-acquire:1",
        "freemap:freemap_any:order-relaxed:1",
        "freemap:freemap_shows:order-acquire:1-2",
        "freemap:freemap_shows:order-relaxed:1-2",
        "reap:reap_show:order-acquire:1",
        "reap:reap_show:order-relaxed:1",
    ),
    "all that the dead did the kernel has ordered before the reaper": (
        "reap:reap_ring:order-acquire:1",
        "reap:reap_ring:order-relaxed:1",
        "reap:reap_slot:order-acquire:1",
        "reap:reap_slot:order-relaxed:1",
        "reap:reap_reader:order-acquire:1",
        "reap:reap_reader:order-relaxed:1",
        "reap:reap_readers:order-acquire:1",
        "reap:reap_readers:order-relaxed:1",
    ),
    "the cell that is written next publishes it, and a swap of owners carries on what was": (
        "reap:reap_ring:order-relaxed:2",
        "reap:reap_queued:order-relaxed:1",
        "reap:reap_leased:order-relaxed:1",
    ),
    "written and read by the coordinator, or known from the kernel as well": (
        "member:member_leave:order-relaxed:1",
        "member:member_bury:order-relaxed:1",
    ),
    # Not equivalent by the standard; no test here is weak enough to show it.
    "needed: sp_slot_give after it orders the same, but for who comes by a wrong bit": (
        "share:drain:order-relaxed:2",
    ),
    "needed: a payload that nobody else publishes; dying with it is too rare among threads": (
        "reap:reap_quarantine:order-relaxed:1",
    ),
    "needed: else a new reader's bit could be set before the dead one's is cleared, by stores"
    " that pass each other, which explore_memory.c leaves out": (
        "reap:reap_readers:order-relaxed:2",
    ),
    "needed: what else the entry says is read by Python only": (
        "member:member_activate:order-relaxed:1",
    ),
}  # fmt: skip


def spread(short: str) -> Iterator[str]:
    """Full names: without the prefixes, and one for each of the ordinals."""
    file, function, rule, ordinals = short.split(":")
    first, _, last = ordinals.partition("-")
    for ordinal in range(int(first), int(last or first) + 1):
        yield f"sp_{file}.h:sp_{function}:{rule}:{ordinal}"


EQUIVALENT = {
    name: reason for reason, shorts in REASONS.items() for short in shorts for name in spread(short)
}

# Files, and how far down all their orders go: one at a time is mostly no bug.
TOGETHER = [
    (file, to)
    for to, files in {"acq_rel": "ring share freemap wait", "relaxed": "ring slot share"}.items()
    for file in files.split()
]


def together(file: str, to: str) -> Mutant:
    """All orders of a file at once."""
    text = original(f"sp_{file}.h")
    strong = r"sp_load_seq_cst" if to == "acq_rel" else r"sp_load_(?:seq_cst|acquire)"
    weak = re.sub(strong, "sp_load_acquire" if to == "acq_rel" else "sp_load_relaxed", text)
    weak = re.sub(r"sp_cas_(?:seq_cst|acq_rel)", f"sp_cas_{to}", weak)
    weak = re.sub(r"sp_fetch_(or|and)_seq_cst", r"sp_fetch_\1_acq_rel", weak)
    return Mutant(f"sp_{file}.h:all:order-{to}:1", 0, len(text), weak)


def count(done: Iterable[tuple[Mutant, str]]) -> str:
    """How many by rule, and how many each test killed."""
    rules = Counter(mutant.rule for mutant, _ in done)
    killers = Counter(how or "survives" for _, how in done)
    return "\n".join(f"{number:5} {what}" for what, number in [*rules.items(), *killers.items()])


def main() -> int:
    """Exit code 1 if one survives that ought not to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="a name, or how it begins")
    parser.add_argument("--list", action="store_true", help="show what each one changes")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    asked = parser.parse_args()
    chosen = [m for m in mutants().values() if m.name.startswith(tuple(asked.names) or "")]
    done = []
    results = ((m, SURVIVES) for m in chosen) if asked.list else fates(chosen, asked.jobs)
    for mutant, how in results:
        before, after = mutant.lines()
        shown = f"\n    - {before}\n    + {after}" if asked.list or not how else ""
        sys.stdout.write(f"{mutant.name}  {how}{shown}\n")
        sys.stdout.flush()
        done.append((mutant, how))
    sys.stdout.write(count(done) + "\n")
    return not asked.list and any(not how and m.name not in EQUIVALENT for m, how in done)


if __name__ == "__main__":
    sys.exit(main())
