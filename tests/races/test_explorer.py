"""Every interleaving of a few processes over the very headers that ship, kills and reaper included.

explorer.c makes each atomic operation a turn of a scheduler and goes through all schedules up
to a bound on preemptions; where a scenario says stale=, through what weaker memory than a
sequentially consistent one may let each load see. explore_ghost.c says what must hold.

SHMPOOL_PROVE=1 in the environment goes deeper, and takes up to half an hour.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from planting import plant

HERE = Path(__file__).parent
CORE = HERE.parents[1] / "shmpool" / "_csrc"
PROVE = bool(os.environ.get("SHMPOOL_PROVE"))
CPUS = len(os.sched_getaffinity(0))

pytestmark = pytest.mark.timeout(3600 if PROVE else 600)

# What each letter does is told in explore_script.c.
LETTERS = "arpgdcsbekKDwfxt"
SCRIPTS = (
    "ap", "gr", "ar", "gp", "adcr", "apgr", "aar", "asr", "be", "abke", "wp", "fa", "x", "t", "gK",
    "cD",
)  # fmt: skip
STARTS = (
    "lap=4",  # what is remembered of head leaves no room: the first put looks again
    "queued=1",
    "queued=2 lap=7",
    "before=as,b",
    "before=ad",
    "slots=FU queued=1 lap=3",
    "slots=UU before=,w",
)
PAIRS = [
    f"{first} {second} {start}"
    for (first, second), start in itertools.product(itertools.product(SCRIPTS, repeat=2), STARTS)
]
TRIPLES = (
    "ap gr gr lap=3",
    "ap ap gr queued=1",
    "ap gp g slots=F",
    "gp gr aK queued=1",
    "ar ar ar",
    "adcr c c",
    "r be be before=as",
    "r be bea before=as,b",
    "asr be bk",
    "ra e bk before=as,b",
    "wr t fa slots=FUU",
    "t w ar slots=FU",
    "gr be rap before=,,as queued=1",
)
# Small enough for all schedules, whatever the number of preemptions.
EXHAUSTIVE = (
    "ras b before=as",
    "ap gr lap=7",
    "p g before=a lap=5",
    "r be before=as kills=2",
    "a e before=as,b kills=2",
    "r a before=a kills=2 slots=F",
    "t w slots=FU kills=2",
    "r k before=as kills=2",
    "s b before=a kills=2",
    "c c before=ad kills=1",
    "ra k before=as stale=2",
    "r be before=as stale=2",
    "g K queued=1 stale=2",
    "c D before=ad stale=2",
    "ar S slots=F stale=2",
    "ap G stale=2",
)
# Too large for that: as deep as half an hour lets us.
DEEP = ("p g before=a lap=5", "r bea before=as", "g g queued=2")
# What weak memory could break: bits against words, masks against bits, bytes against words.
WEAK = (
    "ra bke before=as",
    "ras be before=as",
    "r be before=as,b",
    "rak bea before=as",
    "asr be",
    "apgr KK",
    "gra KK queued=1",
    "gp KK queued=1",
    "c D before=ad",
    "adcr c",
    "ar S slots=F",
    "aarr S",
    "ap G",
    "t wK slots=FU",
    "ra be k before=as",
    "r a k before=as slots=F",
    "gr a K queued=1 slots=F",
    "r be be before=as",
    "ar S S slots=F",
    "ap gr K",
)


def sources() -> list[Path]:
    """The parts of the explorer."""
    return sorted(HERE.glob("expl*.[ch]"))


def build(folder: Path, headers: Path, parts: Path = HERE) -> Path:
    """Compile the explorer over the core's headers in `headers`."""
    program = folder / "explorer"
    command = ["cc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-U_FORTIFY_SOURCE"]
    command += [f"-I{parts}", f"-I{headers}", *map(str, sorted(parts.glob("explore*.c")))]
    subprocess.run([*command, "-o", str(program)], check=True)
    return program


def run(program: Path, scenarios: Iterable[str]) -> tuple[int, str]:
    """Go through scenarios, one after the other: executions, and how the first one failed."""
    command = [str(program)]
    done = subprocess.run(
        command, input="\n".join(scenarios), capture_output=True, text=True, check=False
    )
    executions = sum(map(int, re.findall(r": (\d+) executions$", done.stdout, re.MULTILINE)))
    if done.returncode == 0:
        return executions, ""
    return executions, done.stdout[done.stdout.rfind("\n", 0, done.stdout.find("FAIL")) + 1 :] or (
        f"exit code {done.returncode}: {done.stderr}"
    )


def explore(program: Path, scenarios: Iterable[str], settings: str) -> int:
    """Go through scenarios on all CPUs: how many executions. Each must hold in all of them."""
    every = [f"{scenario} {settings}" for scenario in scenarios]
    with ThreadPoolExecutor(CPUS) as pool:
        results = list(pool.map(lambda i: run(program, every[i :: 4 * CPUS]), range(4 * CPUS)))
    failures = [failure for _, failure in results if failure]
    assert not failures, failures[0]
    return sum(executions for executions, _ in results)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The explorer over the core as it ships."""
    return build(tmp_path_factory.mktemp("explorer"), CORE)


@pytest.fixture(scope="module")
def total() -> list[int]:
    """Executions of each exploration so far."""
    return []


def test_the_pairs_are_of_all_operations() -> None:
    """Each letter is in some script, and each script meets each."""
    assert set(LETTERS) <= set("".join(SCRIPTS))


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_the_explorer_compiles_without_a_warning(compiler: str, tmp_path: Path) -> None:
    """With both compilers, and what they warn of is an error."""
    command = [compiler, "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
    command += [f"-I{HERE}", f"-I{CORE}", *map(str, sorted(HERE.glob("explore*.c")))]
    subprocess.run(command, check=True, cwd=tmp_path)


def test_no_schedule_of_two_members_breaks_the_core(program: Path, total: list[int]) -> None:
    """All pairs of scripts, from all starts, one kill."""
    preempt = 3 if PROVE else 2
    scenarios = PAIRS if PROVE else [pair for i, pair in enumerate(PAIRS) if i % 2]
    total.append(explore(program, scenarios, f"kills=1 preempt={preempt}"))
    total.append(explore(program, PAIRS, "kills=1 preempt=1"))


def test_no_schedule_in_which_two_members_die_breaks_the_core(
    program: Path, total: list[int]
) -> None:
    """The second also while the first is being reaped."""
    scenarios = PAIRS if PROVE else PAIRS[::3]
    total.append(explore(program, scenarios, f"kills=2 preempt={2 if PROVE else 1}"))


def test_a_reaper_that_is_started_over_converges(program: Path, total: list[int]) -> None:
    """It stops between any two of its steps, and does everything again from the beginning."""
    scenarios = PAIRS if PROVE else PAIRS[::5]
    total.append(explore(program, scenarios, f"kills=1 restarts=1 preempt={2 if PROVE else 1}"))


def test_no_schedule_of_three_members_breaks_the_core(program: Path, total: list[int]) -> None:
    if PROVE:
        total.append(explore(program, TRIPLES, "kills=2 preempt=2"))
    total.append(explore(program, TRIPLES, f"kills=1 preempt={3 if PROVE else 2}"))


def test_every_schedule_of_small_scenarios_holds(program: Path, total: list[int]) -> None:
    """Without a bound on preemptions: exhaustive."""
    total.append(explore(program, EXHAUSTIVE, ""))
    if PROVE:
        total.append(explore(program, DEEP, "kills=1 preempt=5"))


def test_what_becomes_of_a_dead_members_work_is_as_the_queue_says(
    program: Path, total: list[int]
) -> None:
    """Discarded, in quarantine, or in the dead letter queue, and never lost."""
    queued = [pair for pair in PAIRS if "g" in pair.split("queued")[0]]
    for policy in ("death=1", "death=2", "attempts=1"):
        settings = f"{policy} kills=1 preempt={2 if PROVE else 1}"
        total.append(explore(program, queued if PROVE else queued[::3], settings))


def test_weak_memory_breaks_nothing(program: Path, total: list[int]) -> None:
    """Loads that see what was there before, where C11 lets them."""
    total.append(explore(program, WEAK, f"stale={3 if PROVE else 2} preempt=2"))
    total.append(explore(program, WEAK, "stale=1 preempt=1 kills=1"))
    scenarios = PAIRS if PROVE else PAIRS[::5]
    total.append(explore(program, scenarios, f"stale={2 if PROVE else 1} preempt=1 kills=1"))


def test_all_this_was_many_executions(program: Path, total: list[int]) -> None:
    """Alone, this test says nothing: it counts what those above have done."""
    if len(total) < 11:
        pytest.skip("not all of them have run")
    print(f"{sum(total):,} executions")  # noqa: T201 - for -rP
    assert sum(total) >= (30_000_000 if PROVE else 1_000_000), total


# Bugs of the kinds that such code has: a file, a place in it, and what is put there instead.
BUGS: dict[str, tuple[str, ...]] = {
    "the owner is not in the word": (
        "sp_slot.h",
        "uint64_t leased = sp_word(SP_LEASED, pool->me,",
        "uint64_t leased = sp_word(SP_LEASED, SP_NOBODY,",
    ),
    "the state is not looked at": (
        "sp_slot.h",
        "    if (sp_word_state(word) != SP_FREE)\n        return false;\n",
        "",
    ),
    "tail is not read again": (
        "sp_ring.h",
        "    if (sp_load_seq_cst(&state->tail) != tail)\n        return false;\n",
        "",
    ),
    "head passes an old tail": (
        "sp_ring.h",
        "    if ((int64_t)(tail - head) < 0)\n        return false;\n",
        "",
    ),
    "head moves past a cell whose owner has changed": (
        "sp_ring.h",
        "word, claimed))\n        return SP_STALE;",
        "word, claimed)) {\n        sp_cas_seq_cst(&state->head, head, head + 1);\n"
        "        return SP_STALE;\n    }",
    ),
    "tail is not helped": (
        "sp_ring.h",
        "    if (sp_ring_live(pool, queue, cell)) {\n"
        "        sp_cas_seq_cst(&state->tail, tail, tail + 1);\n        return false;\n    }\n",
        "",
    ),
    "a dead sender's ticket is not inserted again": (
        "sp_reap.h",
        "if (!outside &&",
        "if (false &&",
    ),
    "requeued work keeps its generation": (
        "sp_reap.h",
        "sp_word(SP_QUEUED, sp_word_owner(word), target, generation + 1)",
        "sp_word(SP_QUEUED, sp_word_owner(word), target, generation)",
    ),
    "the cell comes before the word": (
        "sp_slot.h",
        "    sp_result result = sp_send(pool, right, queue, now, &ticket);\n"
        "    return result == SP_OK ? sp_ring_insert(pool, queue, ticket) : result;",
        "    ticket = sp_ticket(right->slot, sp_word_generation(right->word) + 1);\n"
        "    sp_ring_insert(pool, queue, ticket);\n"
        "    return sp_send(pool, right, queue, now, &ticket);",
    ),
    "a lost free bit is not set again": (
        "sp_reap.h",
        "    sp_slot_give(pool, slot);\n    return true;",
        "    return true;",
    ),
    "a release does not set its bit": (
        "sp_slot.h",
        "    if (sp_word_state(ended) == SP_FREE)\n        sp_slot_give(pool, slot);\n",
        "",
    ),
    "requeued work is nobody's to insert until it is in the ring": (
        "sp_reap.h",
        "sp_word(SP_QUEUED, sp_word_owner(word), target, generation + 1)",
        "sp_word(SP_QUEUED, pool->me, target, generation + 1)",
    ),
    "a ticket that is in the ring gets a second cell": (
        "explore_script.c",
        "    sp_reap_rings(pool, dead);\n",
        "",
    ),
    "a detached ticket's word is read again after it was adopted": (
        "explore_script.c",
        "detached[slot] = sp_word_with_owner(word, pool->me);",
        "detached[slot] = sp_load_acquire(&pool->slots[slot].word + 0 * word);",
    ),
    # Readers.
    "a slot is freed before its last reader has gone": (
        "sp_share.h",
        "if (sp_word_state(word) != SP_DRAINING || sp_readers_any(slot))",
        "if (sp_word_state(word) != SP_DRAINING)",
    ),
    "a borrower does not look at the word again": (
        "sp_share.h",
        "if (sp_word_is(sp_load_seq_cst(&slot->word), SP_SHARED, generation))",
        "if (slot)",
    ),
    "a borrower sets its bit after the look": (
        "sp_share.h",
        "    sp_fetch_or_seq_cst(&slot->readers[reader / 64], sp_bit(reader));\n"
        "    if (sp_word_is(sp_load_seq_cst(&slot->word), SP_SHARED, generation))\n"
        "        return SP_OK;\n",
        "    bool good = sp_word_is(sp_load_seq_cst(&slot->word), SP_SHARED, generation);\n"
        "    sp_fetch_or_seq_cst(&slot->readers[reader / 64], sp_bit(reader));\n"
        "    if (good)\n        return SP_OK;\n",
    ),
    "a reader gives back and does not drain": (
        "sp_share.h",
        "~sp_bit(reader));\n    sp_drain(pool, slot);\n",
        "~sp_bit(reader));\n",
    ),
    "the owner ends its share and does not drain": (
        "sp_share.h",
        "        return false;\n    sp_drain(pool, slot);\n    return true;\n",
        "        return false;\n    return true;\n",
    ),
    "a dead reader's bits stay": (
        "sp_reap.h",
        "            sp_give_back(pool, slot, reader);\n",
        "            (void)slot;\n",
    ),
    "a dead reader's id is free before its bits are": (
        "sp_reap.h",
        "            sp_reap_reader(pool, reader);\n"
        "            sp_store_release(&pool->readers[reader], SP_NOBODY);\n",
        "            sp_store_release(&pool->readers[reader], SP_NOBODY);\n"
        "            sp_reap_reader(pool, reader);\n",
    ),
    "nobody drains for the dead": (
        "sp_reap.h",
        "    if (sp_drain(pool, slot))\n        return true;\n",
        "",
    ),
    "a dead owner's share goes on": (
        "sp_reap.h",
        "        return sp_reap_shared(pool, slot, word);\n",
        "        return SP_REAP_NOTHING;\n",
    ),
    "a share ends as a lease does": (
        "sp_share.h",
        "word, sp_word_draining(word)))",
        "word, sp_word_ended(word)))",
    ),
    "a borrower takes any generation": (
        "sp_share.h",
        "    if (sp_word_is(sp_load_seq_cst(&slot->word), SP_SHARED, generation))\n",
        "    if (sp_word_state(sp_load_seq_cst(&slot->word)) == SP_SHARED)\n",
    ),
    # Peeks.
    "a peek does not look at the state again": (
        "sp_share.h",
        "return sp_word_is(word, state, sp_ticket_generation(ticket));",
        "return state && sp_word_generation(word) == sp_ticket_generation(ticket);",
    ),
    "a peek does not look at the generation again": (
        "sp_share.h",
        "return sp_word_is(word, state, sp_ticket_generation(ticket));",
        "return sp_word_state(word) == state;",
    ),
    "a peek does not look again": (
        "sp_share.h",
        "return sp_word_is(word, state, sp_ticket_generation(ticket));",
        "return state || word;",
    ),
    # Memory.
    "a slot is leased before there is memory": (
        "sp_commit.h",
        ".word = sp_word_with_owner(word, pool->me)};",
        ".word = sp_word(SP_LEASED, pool->me, 0, sp_word_generation(word))};",
    ),
    "a slot is free while its memory goes": (
        "sp_commit.h",
        "    *right = (sp_right){.slot = slot, .word = mine};\n"
        "    return sp_cas_acq_rel(&pool->slots[slot].word, word, mine);\n",
        "    *right = (sp_right){.slot = slot, .word = word};\n    return mine;\n",
    ),
    "a trimmed slot is counted afterwards": (
        "sp_commit.h",
        "    sp_uncommitted_add(pool, class, 1);\n    for (uint32_t i",
        "    for (uint32_t i",
        "            return SP_OK;\n    sp_uncommitted_add(pool, class, (uint64_t)-1);\n",
        "            return sp_uncommitted_add(pool, class, 1), SP_OK;\n",
    ),
    "a committed slot is counted too early": (
        "sp_commit.h",
        "    if (!sp_cas_acq_rel(&pool->slots[right->slot].word, right->word, word))\n"
        "        return false;\n"
        "    sp_uncommitted_add(pool, sp_pool_class_of(pool, right->slot), (uint64_t)-1);\n",
        "    sp_uncommitted_add(pool, sp_pool_class_of(pool, right->slot), (uint64_t)-1);\n"
        "    if (!sp_cas_acq_rel(&pool->slots[right->slot].word, right->word, word))\n"
        "        return false;\n",
    ),
    "a dead fetcher keeps its slot": (
        "sp_reap.h",
        "        return sp_reap_uncommitted(pool, slot, word);\n",
        "        return SP_REAP_NOTHING;\n",
    ),
    "a committed slot is free and not shown": (
        "sp_commit.h",
        "    sp_slot_give(pool, right->slot);\n",
        "",
    ),
    # Orders, found in weak memory only.
    "weak: a reader's bit is set with acq_rel": (
        "sp_share.h",
        "sp_fetch_or_seq_cst(&slot->readers",
        "sp_fetch_or_acq_rel(&slot->readers",
    ),
    "weak: a borrower looks at the word with acquire": (
        "sp_share.h",
        "    if (sp_word_is(sp_load_seq_cst(&slot->word), SP_SHARED, generation))\n",
        "    if (sp_word_is(sp_load_acquire(&slot->word), SP_SHARED, generation))\n",
    ),
    "weak: whoever drains looks at the bits with acquire": (
        "sp_share.h",
        "any |= sp_load_seq_cst(&slot->readers[i]);",
        "any |= sp_load_acquire(&slot->readers[i]);",
    ),
    # Either of the two alone is no bug: the other puts DRAINING before the look at the bits.
    "weak: a share ends with acq_rel, and whoever drains looks at the word with acquire": (
        "sp_share.h",
        "if (!sp_cas_seq_cst(&pool->slots[slot].word, word, sp_word_draining(word)))",
        "if (!sp_cas_acq_rel(&pool->slots[slot].word, word, sp_word_draining(word)))",
        "    uint64_t word = sp_load_seq_cst(&slot->word);\n    /* D-look",
        "    uint64_t word = sp_load_acquire(&slot->word);\n    /* D-look",
    ),
    "weak: a share publishes nothing": (
        "sp_share.h",
        "if (!sp_cas_seq_cst(&pool->slots[right->slot].word, right->word, shared))",
        "if (!sp_cas_relaxed(&pool->slots[right->slot].word, right->word, shared))",
    ),
    "weak: a ticket publishes nothing": (
        "sp_slot.h",
        "if (!sp_cas_seq_cst(&slot->word, right->word, queued))",
        "if (!sp_cas_relaxed(&slot->word, right->word, queued))",
    ),
    "weak: a peek has no fence before it looks again": (
        "sp_share.h",
        "    sp_fence_acquire();\n",
        "",
    ),
    "weak: a fresh lease has no fence before it writes": (
        "sp_slot.h",
        "    sp_fence_release();\n    sp_store_relaxed(&slot->since_ns, now);",
        "    sp_store_relaxed(&slot->since_ns, now);",
    ),
    "weak: a getter has no fence before it writes": (
        "sp_ring.h",
        "    sp_fence_release(); /* P-begin */\n",
        "",
    ),
    "weak: a claimer has no fence before it writes": (
        "sp_slot.h",
        "    sp_fence_release(); /* P-begin */\n",
        "",
    ),
    "weak: a sleeper sets its bit with acq_rel": (
        "sp_wait.h",
        "sp_fetch_or_seq_cst(&mask[member / 64]",
        "sp_fetch_or_acq_rel(&mask[member / 64]",
    ),
    "weak: a ringer looks at the mask with acquire": (
        "sp_wait.h",
        "any |= sp_load_seq_cst(&mask[i]);",
        "any |= sp_load_acquire(&mask[i]);",
    ),
    "weak: a sleeper looks at the free bits with acquire": (
        "sp_freemap.h",
        "uint64_t bits = sp_load_seq_cst(word) & among;",
        "uint64_t bits = sp_load_acquire(word) & among;",
    ),
    "weak: a free bit is set with acq_rel": (
        "sp_freemap.h",
        "sp_fetch_or_seq_cst(&map->words[i / 64], sp_bit(i));",
        "sp_fetch_or_acq_rel(&map->words[i / 64], sp_bit(i));",
    ),
}
HUNT = [
    "ap gp g slots=F kills=1 preempt=2",
    "asbra b kills=1 preempt=2",
    "gr gr queued=2 kills=1 preempt=1 restarts=1",
    *(f"{scenario} stale=2 preempt=2" for scenario in WEAK),
    *(f"{scenario} kills=1 preempt=1" for scenario in PAIRS),
    *(f"{scenario} kills=1 preempt=1 restarts=1" for scenario in PAIRS[::5]),
    *(f"{scenario} kills=1 preempt=2" for scenario in PAIRS[::3]),
]


def planted(folder: Path, file: str, *places: str) -> tuple[Path, Path]:
    """A copy of headers and explorer, and in one file each place, which must be there, changed."""
    headers, parts = folder / "headers", folder / "parts"
    shutil.copytree(CORE, headers)
    parts.mkdir()
    for part in sources():
        shutil.copy(part, parts)
    plant((parts if (parts / file).exists() else headers) / file, *places)
    return headers, parts


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(bug: str, tmp_path: Path) -> None:
    """An explorer that finds nothing in broken code proves nothing about sound code."""
    program = build(tmp_path, *planted(tmp_path, *BUGS[bug]))
    scenarios = [s for s in HUNT if "stale" in s] if bug.startswith("weak") else HUNT
    _, failure = run(program, scenarios)
    assert failure, "no schedule found it"


def test_what_weak_memory_breaks_is_found_in_weak_memory_only(tmp_path: Path) -> None:
    """Else these bugs would say nothing of the mode."""
    bug = BUGS["weak: whoever drains looks at the bits with acquire"]
    program = build(tmp_path, *planted(tmp_path, *bug))
    explore(program, PAIRS, "kills=1 preempt=1")
