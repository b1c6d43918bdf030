/* The protocol as a whole: words, ring, free map, readers, memory, reaper and kills together.
 *
 * Two members do what they like, at each step either of them may be killed, and a reaper gives
 * back what the dead held while the other goes on. Each step is one atomic operation on shared
 * memory, with what the process then decides by itself: one d_step, guarded by `pc`.
 *
 * Folding: there is none, and so there is nothing to argue. A member begins at most OPERATIONS
 * operations and at most KILLS members die, so generations and ring positions are bounded by
 * these and never wrap in their bytes (an assertion says so). Only what has no meaning is
 * dropped: the temporaries of a process that is between two operations, or dead, are 0. A dead
 * member comes back, under the same index, as soon as its entry is vacant, and begins what
 * operations the dead one had left: so indices are used again while old words and cells are
 * about. Positions begin at START, shortly before the ring's end, so that laps are crossed.
 *
 * A kill of a member that holds nothing is also what a departure in good order is: what it sent
 * is adopted. Readers have their member's index as their id, and each borrows once at a time.
 *
 * Not here: detached tickets, dead letters, quarantine, waiting and doorbells, the summary of the
 * free map, the hint of uncommitted slots, the end of the 48 bits.
 *
 * Memory is sequentially consistent here, which is what seq_cst operations on one word each
 * promise. Weaker orders are not the business of this model.
 *
 * Macros, all by -D:
 *   RING, READERS, MEMORY   which operations there are beside acquire and release
 *   SLOTS, OPERATIONS, KILLS, CELLS, START
 *   MAPPED                  slots with memory at the start
 *   REAPER_DIES             the reaper may die too, once, and another begins anew
 *   BUG_ and a name         one thing done wrong; see test_model.py
 */

#ifndef SLOTS
#define SLOTS 1
#endif
#ifndef MAPPED
#define MAPPED SLOTS
#endif
#ifndef OPERATIONS
#define OPERATIONS 2
#endif
#ifndef KILLS
#define KILLS 2
#endif
#ifndef START
#define START 6
#endif

#define NOBODY 0
#define REAPER 3 /* the coordinator's index as an owner; members are 1 and 2 */
#define BIT(i) (1 << (i))

/* word: generation | owner:2 | queue:1 | state:3. There is one queue. */
#define WORD(state, owner, queue, generation) \
    ((generation) << 6 | (owner) << 4 | (queue) << 3 | (state))
#define STATE(w) ((w) & 7)
#define QUEUE(w) (((w) >> 3) & 1)
#define OWNER(w) (((w) >> 4) & 3)
#define GENERATION(w) ((w) >> 6)
#define NEXT(w) (GENERATION(w) + 1)

#define FREE 0
#define LEASED 1
#define QUEUED 2
#define SHARED 3
#define DRAINING 4
#define UNCOMMITTED 5

/* A power of two. The pool takes at least 3 * SLOTS + 2: 5 for one slot, 8 for two. With fewer
 * cells the ring is soon full and is gone round often, which the real size keeps rare. */
#ifndef CELLS
#define CELLS 8
#endif
#define MASK (CELLS - 1)
#define TICKET(slot, generation) ((generation) * SLOTS + (slot)) /* 0 is none: g >= 1 */
#define TICKET_SLOT(t) ((t) % SLOTS)
#define TICKET_GENERATION(t) ((t) / SLOTS)
#define IS_LIVE(t, w) (STATE(w) == QUEUED && GENERATION(w) == TICKET_GENERATION(t))
#define LIVE(t) IS_LIVE(t, word[TICKET_SLOT(t)])

/* What lies in shared memory. */
short word[SLOTS];
byte readers[SLOTS]; /* mask of members */
byte map;            /* mask of slots */
byte cells[CELLS];
byte head = START, tail = START;

/* What the kernel knows. */
bool memory[SLOTS]; /* is there memory behind the slot? */
bool dead[3];       /* killed, and its entry not vacant yet */
byte kills = KILLS;
#ifdef REAPER_DIES
byte reaper_kills = 1;
#else
byte reaper_kills = 0;
#endif

/* Ghosts: what is true, for assertions only. No process acts on them, but for `letter`,
 * the generation of the latest ticket that was handed to readers, by whatever way. */
byte right[SLOTS];   /* who has the exclusive right, alive or not yet reaped */
byte reading[SLOTS]; /* mask of members that look at the payload at this moment */
byte letter[SLOTS];
byte done;           /* members that have ended */
#if SLOTS > 1 && defined(RING)
byte place[SLOTS];   /* position of a queued ticket's first cell, 0: not in the ring yet */
#endif

#define IN_USE(s) (STATE(word[s]) == LEASED || STATE(word[s]) == QUEUED || STATE(word[s]) == SHARED)

mtype = {
    IDLE, DEAD, ENDED,
    LOOK, TAKE, SEE, LEASE, NAME_OWNER, GIVE,
    INSERT_TAIL, INSERT_HEAD, FULL_CELL, FULL_LIVE, FULL_STEP,
    INSERT_CELL, INSERT_LIVE, INSERT_HELP, INSERT_AGAIN, INSERT_WRITE, INSERT_DONE,
    CLAIM_HEAD, CLAIM_TAIL, CLAIM_CELL, CLAIM_LIVE, CLAIM_HELP, CLAIM_AGAIN, CLAIM_STEP,
    CLAIM_WORD, CLAIM_DONE, PUT_WORD,
    BORROW_SET, BORROW_RELOAD, BORROW_CLEAR,
    DRAIN, DRAIN_LOOK, DRAIN_FREE, DRAIN_GIVE,
    GROW_OWN, GROW_COMMIT, GROW_GIVE_UP, GROW_LEASE,
    TRIM_OWN, TRIM_PUNCH, TRIM_END,
    SCAN_CELL, SCAN_SEE, SCAN_ADOPT, REAP_BIT, REAP_SEE, REAP_REQUEUE, REAP_ADOPT, REAP_FREE, REAP_GIVE,
    REAP_DRAINING, REAP_UNCOMMITTED, REAP_NEXT, SWEEP, SHOW, SHOW_BIT, SHOW_GIVE, SWEEP_NEXT, VACATE
};

/* The steps that members and the reaper share. Each process has pc, back (where to go on after
 * one of these), and temporaries s (slot), w (word), ticket, c (cell), h (head), t (tail). */

/* sp_ring_try_insert(), again and again: write `ticket` into the ring, then go `back`. */
inline insert()
{
    if
    :: d_step { pc == INSERT_TAIL -> c = 0; h = 0; t = tail; pc = INSERT_HEAD }
    :: d_step {
           pc == INSERT_HEAD -> h = head;
           if
           :: t < h -> pc = INSERT_TAIL
           :: t < h -> pc = INSERT_CELL /* by the head that it saw last: this one, once, was t */
           :: t - h > MASK -> pc = FULL_CELL
           :: else -> pc = INSERT_CELL
           fi
       }
    :: d_step { pc == FULL_CELL -> c = cells[h & MASK]; pc = FULL_LIVE }
    :: d_step {
           pc == FULL_LIVE ->
           if
           :: LIVE(c) ->
                  /* Full of tickets that wait? Then there are too few cells, and no end. */
                  assert(head != h || tail != t);
                  pc = INSERT_TAIL
           :: else -> pc = FULL_STEP
           fi
       }
    :: d_step { pc == FULL_STEP -> if :: head == h -> head++ :: else fi; pc = INSERT_TAIL }
    :: d_step { pc == INSERT_CELL -> c = cells[t & MASK]; pc = INSERT_LIVE }
    :: d_step {
           pc == INSERT_LIVE ->
           if
           :: LIVE(c) -> pc = INSERT_HELP
#ifdef BUG_TAIL_NOT_READ_AGAIN
           :: else -> pc = INSERT_WRITE
#else
           :: else -> pc = INSERT_AGAIN
#endif
           fi
       }
    :: d_step { pc == INSERT_HELP -> if :: tail == t -> tail++ :: else fi; pc = INSERT_TAIL }
    :: d_step {
           pc == INSERT_AGAIN ->
           if
           :: tail == t -> pc = INSERT_WRITE
           :: else -> pc = INSERT_TAIL
           fi
       }
    :: d_step {
           pc == INSERT_WRITE ->
           if
           :: cells[t & MASK] == c ->
                  cells[t & MASK] = ticket;
#if SLOTS > 1
                  if
                  :: LIVE(ticket) && !place[TICKET_SLOT(ticket)] -> place[TICKET_SLOT(ticket)] = t
                  :: else
                  fi;
#endif
                  pc = INSERT_DONE
           :: else -> pc = INSERT_TAIL
           fi
       }
    :: d_step {
           pc == INSERT_DONE -> if :: tail == t -> tail++ :: else fi;
           ticket = 0; c = 0; h = 0; t = 0; pc = back; back = IDLE
       }
    fi
}

/* try_drain of slot s: whoever might be the last to see it go looks. Then go `back`. */
inline drain()
{
    if
    :: d_step {
           pc == DRAIN -> w = word[s];
           if
#ifdef BUG_READERS_NOT_LOOKED_AT
           :: STATE(w) == DRAINING -> pc = DRAIN_FREE
#else
           :: STATE(w) == DRAINING -> pc = DRAIN_LOOK
#endif
           :: else -> w = 0; pc = back; back = IDLE
           fi
       }
    :: d_step {
           pc == DRAIN_LOOK ->
           if
           :: !readers[s] -> pc = DRAIN_FREE
           :: else -> w = 0; pc = back; back = IDLE
           fi
       }
    :: d_step {
           pc == DRAIN_FREE ->
           if
           :: word[s] == w ->
                  assert(!reading[s]); /* nobody reads what may now be leased and written */
                  word[s] = WORD(FREE, NOBODY, 0, GENERATION(w));
                  w = 0; pc = DRAIN_GIVE
           :: else -> w = 0; pc = back; back = IDLE
           fi
       }
    :: d_step { pc == DRAIN_GIVE -> map = map | BIT(s); pc = back; back = IDLE }
    fi
}

#ifdef BUG_TRIM_PUNCHES_FIRST
#define TRIM_FIRST TRIM_PUNCH
#else
#define TRIM_FIRST TRIM_OWN
#endif

#define REST s = 0; w = 0; ticket = 0; c = 0; h = 0; t = 0; trim = false; back = IDLE; pc = IDLE

/* A fresh exclusive right: nobody else has one, nobody reads, and there is memory. */
#define BEGIN_RIGHT(slot) \
    assert(!right[slot] && !reading[slot]); assert(memory[slot]); right[slot] = me

/* The holder of a right ends or changes it: it must still be there, whatever others did. */
#define CHANGE_RIGHT(new) \
    assert(right[mine] == me && word[mine] == lease && memory[mine]); word[mine] = new

#if defined(BUG_NO_RELOAD)
#define STILL_SHARED true
#elif defined(BUG_RELOAD_OF_STATE_ONLY)
#define STILL_SHARED (STATE(word[s]) == SHARED)
#else
#define STILL_SHARED (STATE(word[s]) == SHARED && GENERATION(word[s]) == ticket)
#endif

#ifdef BUG_LOOK_BEFORE_BIT
#define BORROW_FIRST BORROW_RELOAD
#else
#define BORROW_FIRST BORROW_SET
#endif

/* From here on a borrower reads. */
#define READ borrowed = ticket; yours = s; reading[s] = reading[s] | BIT(me); REST

/* What a member may begin with slot i, where the slot is its own choice. */
inline begin_with(i)
{
    if
#ifdef READERS
    :: d_step {
           /* With the first look in it: a ticket that is stale by then is turned away. */
           pc == IDLE && operations && !borrowed && letter[i] -> operations--;
           if
           :: STATE(word[i]) == SHARED && GENERATION(word[i]) == letter[i] ->
                  s = i; ticket = letter[i]; pc = BORROW_FIRST
           :: else
           fi
       }
#endif
#ifdef MEMORY
    :: d_step {
           pc == IDLE && operations && !lease -> operations--;
           if
           :: STATE(word[i]) == UNCOMMITTED && OWNER(word[i]) == NOBODY ->
                  s = i; w = word[i]; pc = GROW_OWN
           :: else
           fi
       }
    /* trim, by the word alone: the bit stays, for somebody to follow in vain. */
    :: d_step {
           pc == IDLE && operations && !lease -> operations--;
           if
           :: STATE(word[i]) == FREE -> s = i; w = word[i]; pc = TRIM_FIRST
           :: else
           fi
       }
#endif
    fi
}

proctype member(byte me)
{
    mtype pc = IDLE, back = IDLE;
    byte operations = OPERATIONS;
    short lease;          /* the word of my right, 0: none */
    byte mine;            /* its slot */
    byte borrowed, yours; /* the ticket by which I read, 0: none, and its slot */
    byte s, ticket, c, h, t;
    short w;
    bool trim;

    do
    /* Killed: at any step, with whatever it held; what it knew is gone. */
    :: d_step {
           kills && pc != DEAD && pc != ENDED -> kills--;
           reading[yours] = reading[yours] & (255 - BIT(me));
           REST; lease = 0; mine = 0; borrowed = 0; yours = 0;
           dead[me] = true; pc = DEAD
       }
    /* Its entry is vacant: somebody else joins under this index. */
    :: d_step { pc == DEAD && !dead[me] -> pc = IDLE }
    /* Nothing in hand: it may end at any time. */
    :: d_step {
           pc == IDLE && !lease && !borrowed -> operations = 0; done++; pc = ENDED
       }
    :: pc == ENDED -> break

    /* acquire, and trim by way of the map: take a bit, and see what it is worth. */
    :: d_step {
           pc == IDLE && operations && !lease && map -> operations--; pc = LOOK
       }
#ifdef MEMORY
    :: d_step {
           pc == IDLE && operations && !lease && map -> operations--; trim = true; pc = LOOK
       }
#endif
    :: d_step {
           pc == LOOK ->
           if
           :: map & 1 -> s = 0; pc = TAKE
           :: !(map & 1) && map & 2 -> s = 1; pc = TAKE
           :: else -> REST
           fi
       }
#if SLOTS > 1
    :: d_step { pc == LOOK && map & 2 -> s = 1; pc = TAKE } /* its cursor may stand here */
#endif
    :: d_step {
           pc == TAKE ->
           if
           :: map & BIT(s) -> map = map & (255 - BIT(s)); pc = SEE
           :: else -> s = 0; pc = LOOK
           fi
       }
    :: d_step {
           pc == SEE ->
           if
           :: STATE(word[s]) != FREE -> s = 0; pc = LOOK
           :: else ->
                  w = word[s];
                  if
                  :: trim -> pc = TRIM_FIRST
                  :: else -> pc = LEASE
                  fi
           fi
       }
    :: d_step {
           pc == LEASE ->
           if
           :: word[s] == w ->
                  BEGIN_RIGHT(s);
                  mine = s; lease = WORD(LEASED, me, 0, GENERATION(w));
#ifdef BUG_OWNER_AFTER_WORD
                  word[s] = WORD(LEASED, NOBODY, 0, GENERATION(w)); pc = NAME_OWNER
#else
                  word[s] = lease; REST
#endif
           :: else -> s = 0; w = 0; pc = LOOK
           fi
       }
#ifdef BUG_OWNER_AFTER_WORD
    :: d_step { pc == NAME_OWNER -> word[s] = lease; REST }
#endif

    /* release: the word, then the bit. */
    :: d_step {
           pc == IDLE && STATE(lease) == LEASED ->
           CHANGE_RIGHT(WORD(FREE, NOBODY, 0, NEXT(lease)));
           right[mine] = NOBODY; s = mine; lease = 0; mine = 0; pc = GIVE
       }
    :: d_step { pc == GIVE -> map = map | BIT(s); REST }

#ifdef RING
    /* put: the word, then the cell, then tail. */
    :: d_step {
           pc == IDLE && STATE(lease) == LEASED ->
           ticket = TICKET(mine, NEXT(lease));
#ifdef BUG_CELL_BEFORE_WORD
           back = PUT_WORD; pc = INSERT_TAIL
       }
    :: d_step {
           pc == PUT_WORD ->
#else
           back = IDLE; pc = INSERT_TAIL;
#endif
           CHANGE_RIGHT(WORD(QUEUED, me, 1, NEXT(lease)));
#if SLOTS > 1
           place[mine] = 0;
#endif
           right[mine] = NOBODY; lease = 0; mine = 0;
#ifdef BUG_CELL_BEFORE_WORD
           REST
#endif
       }

    :: insert()

    /* get: sp_ring_try_claim(), again and again. */
    :: d_step {
           pc == IDLE && operations && !lease -> operations--; h = head; pc = CLAIM_TAIL
       }
    :: d_step { pc == CLAIM_HEAD -> c = 0; t = 0; w = 0; h = head; pc = CLAIM_TAIL }
    :: d_step { pc == CLAIM_TAIL -> t = tail; pc = CLAIM_CELL }
    :: d_step { pc == CLAIM_CELL -> c = cells[h & MASK]; pc = CLAIM_LIVE }
    :: d_step {
           pc == CLAIM_LIVE ->
           s = TICKET_SLOT(c); w = word[s];
           if
           :: IS_LIVE(c, w) -> pc = (h == t -> CLAIM_HELP : CLAIM_AGAIN)
           :: else -> s = 0; w = 0; pc = CLAIM_AGAIN
           fi
       }
    :: d_step { pc == CLAIM_HELP -> if :: tail == t -> tail++ :: else fi; s = 0; pc = CLAIM_HEAD }
    :: d_step {
           pc == CLAIM_AGAIN ->
           if
           :: head != h -> s = 0; pc = CLAIM_HEAD
           :: head == h && h == t -> REST /* empty */
           :: else -> pc = (w -> CLAIM_WORD : CLAIM_STEP)
           fi
       }
    :: d_step { pc == CLAIM_STEP -> if :: head == h -> head++ :: else fi; pc = CLAIM_HEAD }
    :: d_step {
           pc == CLAIM_WORD ->
           if
           :: word[s] == w ->
                  BEGIN_RIGHT(s);
#if SLOTS > 1
                  /* First in, first out: no ticket that was in the ring before it still waits. */
                  assert(STATE(word[1 - s]) != QUEUED || !place[1 - s] || place[1 - s] > place[s]);
                  place[s] = 0;
#endif
                  mine = s; lease = WORD(LEASED, me, 1, GENERATION(w)); word[s] = lease;
                  pc = CLAIM_DONE
#ifdef BUG_HEAD_PASSES_A_LIVE_CELL
           :: else -> s = 0; pc = CLAIM_STEP
#else
           :: else -> s = 0; pc = CLAIM_HEAD
#endif
           fi
       }
    :: d_step { pc == CLAIM_DONE -> if :: head == h -> head++ :: else fi; REST }
#endif

#ifdef READERS
    /* share, and release of what is shared. */
    :: d_step {
           pc == IDLE && STATE(lease) == LEASED ->
           CHANGE_RIGHT(WORD(SHARED, me, 0, GENERATION(lease)));
           letter[mine] = GENERATION(lease); lease = word[mine]
       }
    :: d_step {
           pc == IDLE && STATE(lease) == SHARED ->
           CHANGE_RIGHT(WORD(DRAINING, NOBODY, 0, NEXT(lease)));
           right[mine] = NOBODY; s = mine; lease = 0; mine = 0; back = IDLE; pc = DRAIN
       }

    /* borrow, after its first look: my bit, then the word again. */
    :: d_step {
           pc == BORROW_SET -> readers[s] = readers[s] | BIT(me);
#ifdef BUG_LOOK_BEFORE_BIT
           READ
#else
           pc = BORROW_RELOAD
#endif
       }
    :: d_step {
           pc == BORROW_RELOAD ->
           if
#ifdef BUG_LOOK_BEFORE_BIT
           :: STILL_SHARED -> pc = BORROW_SET
#else
           :: STILL_SHARED -> READ
#endif
           :: else -> ticket = 0; pc = BORROW_CLEAR
           fi
       }
    :: d_step {
           pc == BORROW_CLEAR -> readers[s] = readers[s] & (255 - BIT(me));
#ifdef BUG_FAILED_BORROW_DOES_NOT_DRAIN
           REST
#else
           back = IDLE; pc = DRAIN
#endif
       }
    /* Give back: my bit, then a look whether I was the last. What was read was still there. */
    :: d_step {
           pc == IDLE && borrowed ->
           assert((STATE(word[yours]) == SHARED && GENERATION(word[yours]) == borrowed) ||
                  (STATE(word[yours]) == DRAINING && GENERATION(word[yours]) == borrowed + 1));
           reading[yours] = reading[yours] & (255 - BIT(me));
           readers[yours] = readers[yours] & (255 - BIT(me));
#ifndef BUG_GIVE_BACK_DOES_NOT_DRAIN
           s = yours; back = IDLE; pc = DRAIN;
#endif
           borrowed = 0; yours = 0
       }

    :: drain()
    /* What follows a drain is rest, and rest has no slot. */
    :: d_step { pc == IDLE && s -> s = 0 }
#endif

#ifdef MEMORY
    /* grow: own it, put memory behind it, then lease it or let whoever comes have it. */
    :: d_step {
           pc == GROW_OWN ->
           if
           :: word[s] == w ->
#ifdef BUG_LEASE_BEFORE_MEMORY
                  right[s] = me; mine = s; lease = WORD(LEASED, me, 0, GENERATION(w));
                  word[s] = lease; w = 0; pc = GROW_COMMIT
#else
                  w = WORD(UNCOMMITTED, me, 0, GENERATION(w)); word[s] = w; pc = GROW_COMMIT
#endif
           :: else -> REST
           fi
       }
    :: d_step {
           pc == GROW_COMMIT -> memory[s] = true;
#ifdef BUG_LEASE_BEFORE_MEMORY
           REST
#else
           pc = GROW_LEASE
#endif
       }
#ifndef BUG_LEASE_BEFORE_MEMORY
    :: d_step { pc == GROW_COMMIT -> pc = GROW_GIVE_UP } /* there is no more */
#endif
    :: d_step {
           pc == GROW_GIVE_UP ->
           assert(word[s] == w);
           word[s] = WORD(UNCOMMITTED, NOBODY, 0, GENERATION(w)); REST
       }
    :: d_step {
           pc == GROW_LEASE ->
           assert(word[s] == w);
           BEGIN_RIGHT(s);
           mine = s; lease = WORD(LEASED, me, 0, GENERATION(w)); word[s] = lease; REST
       }

    :: d_step {
           pc == GROW_LEASE ->
           assert(word[s] == w && memory[s]);
           word[s] = WORD(FREE, NOBODY, 0, GENERATION(w)); w = 0; pc = GIVE
       }

    /* trim, the slot found: own it, take the memory away, let go of it. */
    :: d_step {
           pc == TRIM_OWN ->
           if
           :: word[s] == w ->
#ifdef BUG_TRIM_LETS_GO_FIRST
                  word[s] = WORD(UNCOMMITTED, NOBODY, 0, NEXT(w)); pc = TRIM_PUNCH
#else
                  w = WORD(UNCOMMITTED, me, 0, GENERATION(w)); word[s] = w; pc = TRIM_PUNCH
#endif
           :: else -> REST
           fi
       }
    :: d_step {
           pc == TRIM_PUNCH -> memory[s] = false;
           assert(!IN_USE(s) && !right[s] && !reading[s]);
#ifdef BUG_TRIM_LETS_GO_FIRST
           REST
#else
           pc = TRIM_END
#endif
       }
    :: d_step {
           pc == TRIM_END ->
#ifdef BUG_TRIM_PUNCHES_FIRST
           if :: word[s] == w -> word[s] = WORD(UNCOMMITTED, NOBODY, 0, NEXT(w)) :: else fi;
#else
           assert(word[s] == w);
           word[s] = WORD(UNCOMMITTED, NOBODY, 0, NEXT(w));
#endif
           REST
       }
#endif

#if defined(READERS) || defined(MEMORY)
    :: begin_with(0)
#if SLOTS > 1
    :: begin_with(1)
#endif
#endif
    od
}

/* For the reaper the right of a dead holder ends. */
#define END_RIGHT(new) assert(word[s] == w && right[s] == d); right[s] = NOBODY; word[s] = new

#if defined(RING) && !defined(BUG_SECOND_CELL)
#define REAP_FIRST SCAN_CELL
#else
#define REAP_FIRST REAP_BIT
#endif

#define SCAN_ON \
    w = 0; c = 0; h++; \
    if \
    :: h == CELLS -> h = 0; pc = REAP_BIT \
    :: else -> pc = SCAN_CELL \
    fi

proctype reaper()
{
    mtype pc = IDLE, back = IDLE;
    byte d; /* who is dead */
    byte s, ticket, c, h, t;
    short w;

    do
    :: d_step { pc == IDLE && dead[1] -> d = 1; pc = REAP_FIRST }
    :: d_step { pc == IDLE && dead[2] -> d = 2; pc = REAP_FIRST }
    :: d_step { pc == IDLE && done == 2 -> pc = ENDED }
    :: pc == ENDED -> break
#ifdef REAPER_DIES
    /* Another begins from the beginning, and knows no more than the table of members says. */
    :: d_step {
           reaper_kills && pc != IDLE && pc != ENDED -> reaper_kills--;
           d = 0; s = 0; ticket = 0; c = 0; h = 0; t = 0; w = 0; back = IDLE; pc = IDLE
       }
#endif

#ifdef RING
    /* The cells: tickets of the dead one that stand in the ring are taken over. A live cell is
     * not written over, so what is in its name after that stands in none, and nobody can take
     * it. No ticket may have a second cell: that would die by way of the first, at the tail
     * even, and then a putter may write into a position that head is passing. */
    :: d_step { pc == SCAN_CELL -> c = cells[h]; pc = SCAN_SEE }
    :: d_step {
           pc == SCAN_SEE -> w = (c -> word[TICKET_SLOT(c)] : 0);
           if
           :: c && LIVE(c) && OWNER(w) == d -> pc = SCAN_ADOPT
           :: else -> SCAN_ON
           fi
       }
    :: d_step {
           pc == SCAN_ADOPT ->
           if
           :: word[TICKET_SLOT(c)] == w ->
                  word[TICKET_SLOT(c)] = WORD(QUEUED, REAPER, 1, GENERATION(w))
           :: else /* somebody took it: good */
           fi;
           SCAN_ON
       }
#endif

    /* All slots: what was read, and what was owned. */
    :: d_step {
           pc == REAP_BIT ->
           pc = REAP_SEE;
#if defined(READERS) && !defined(BUG_READER_BIT_LEFT)
           if
           :: readers[s] & BIT(d) ->
                  readers[s] = readers[s] & (255 - BIT(d)); back = REAP_SEE; pc = DRAIN
           :: else
           fi
#endif
       }
    :: d_step {
           pc == REAP_SEE -> w = word[s];
           if
           :: OWNER(w) == d && STATE(w) == LEASED && QUEUE(w) -> pc = REAP_REQUEUE
           :: OWNER(w) == d && STATE(w) == LEASED && !QUEUE(w) -> pc = REAP_FREE
           :: OWNER(w) == d && STATE(w) == QUEUED ->
                  ticket = TICKET(s, GENERATION(w));
#if defined(BUG_NO_INSERT_BY_REAPER)
                  ticket = 0; pc = REAP_ADOPT
#else
                  back = REAP_ADOPT; pc = INSERT_TAIL
#endif
           :: OWNER(w) == d && STATE(w) == SHARED -> pc = REAP_DRAINING
#ifdef BUG_UNCOMMITTED_NOT_REAPED
           :: OWNER(w) == d && STATE(w) == UNCOMMITTED -> w = 0; pc = REAP_NEXT
#else
           :: OWNER(w) == d && STATE(w) == UNCOMMITTED -> pc = REAP_UNCOMMITTED
#endif
           :: else -> w = 0; pc = REAP_NEXT
           fi
       }
    :: d_step {
           pc == REAP_REQUEUE ->
#ifdef BUG_SAME_GENERATION
           ticket = TICKET(s, GENERATION(w));
#else
           ticket = TICKET(s, NEXT(w));
#endif
#ifdef BUG_REQUEUED_IN_THE_NAME_OF_THE_REAPER
           END_RIGHT(WORD(QUEUED, REAPER, 1, TICKET_GENERATION(ticket)));
           w = 0; back = REAP_NEXT; pc = INSERT_TAIL
#else
           /* In the name of the dead: a reaper that dies now leaves what a dead sender leaves. */
           END_RIGHT(WORD(QUEUED, d, 1, TICKET_GENERATION(ticket)));
           w = word[s]; back = REAP_ADOPT; pc = INSERT_TAIL
#endif
       }
    :: d_step {
           pc == REAP_ADOPT ->
           if
           :: word[s] == w -> word[s] = WORD(QUEUED, REAPER, 1, GENERATION(w))
           :: else /* somebody took it: good */
           fi;
           w = 0; pc = REAP_NEXT
       }
    :: d_step {
           pc == REAP_FREE ->
           END_RIGHT(WORD(FREE, NOBODY, 0, NEXT(w))); w = 0; pc = REAP_GIVE
       }
    :: d_step { pc == REAP_GIVE -> map = map | BIT(s); pc = REAP_NEXT }
    :: d_step {
           pc == REAP_DRAINING ->
           END_RIGHT(WORD(DRAINING, NOBODY, 0, NEXT(w)));
           w = 0; back = REAP_NEXT; pc = DRAIN
       }
    :: d_step {
           pc == REAP_UNCOMMITTED ->
           assert(word[s] == w);
           word[s] = WORD(UNCOMMITTED, NOBODY, 0, GENERATION(w)); w = 0; pc = REAP_NEXT
       }
    :: d_step {
           pc == REAP_NEXT ->
           if
           :: s + 1 < SLOTS -> s++; pc = REAP_BIT
           :: else -> s = 0; pc = SWEEP
           fi
       }

    /* All slots again: what the dead one was about to drain, and the bits it took or owed. */
    :: d_step {
           pc == SWEEP ->
#if defined(READERS) && !defined(BUG_NO_SWEEP)
           back = SHOW; pc = DRAIN
#else
           pc = SHOW
#endif
       }
    :: d_step { pc == SHOW -> pc = (STATE(word[s]) == FREE -> SHOW_BIT : SWEEP_NEXT) }
    :: d_step { pc == SHOW_BIT -> pc = (map & BIT(s) -> SWEEP_NEXT : SHOW_GIVE) }
    :: d_step {
           pc == SHOW_GIVE ->
#ifndef BUG_LOST_BITS_LEFT
           map = map | BIT(s);
#endif
           pc = SWEEP_NEXT
       }
    :: d_step {
           pc == SWEEP_NEXT ->
           if
           :: s + 1 < SLOTS -> s++; pc = SWEEP
           :: else -> s = 0; pc = VACATE
           fi
       }
    :: d_step { pc == VACATE -> dead[d] = false; d = 0; pc = IDLE }

#ifdef RING
    :: insert()
#endif
#ifdef READERS
    :: drain()
#endif
    od;

    /* Quiet: all have ended, and all the dead are reaped. Nothing may be lost. */
    assert(done == 2 && !dead[1] && !dead[2]);
    d_step {
        do
        :: head == tail && !LIVE(cells[head & MASK]) -> break
        :: head == tail && LIVE(cells[head & MASK]) -> tail++
        :: head != tail && !LIVE(cells[head & MASK]) -> head++
        :: head != tail && LIVE(cells[head & MASK]) ->
               s = TICKET_SLOT(cells[head & MASK]);
               word[s] = WORD(FREE, NOBODY, 0, GENERATION(word[s]) + 1); map = map | BIT(s)
        od;
        s = 0;
        do
        :: s < SLOTS ->
               /* Not QUEUED: then it would have been got just now. */
               assert(STATE(word[s]) == FREE || STATE(word[s]) == UNCOMMITTED);
               assert(OWNER(word[s]) == NOBODY && !right[s] && !readers[s] && !reading[s]);
               assert(STATE(word[s]) != FREE || (map & BIT(s) && memory[s]));
               assert(GENERATION(word[s]) < 120 / SLOTS && tail < 250); /* nothing wrapped */
               s++
        :: else -> break
        od
    }
}

init
{
    byte s;
    d_step {
        do
        :: s < MAPPED ->
               word[s] = WORD(FREE, NOBODY, 0, 1); memory[s] = true; map = map | BIT(s); s++
        :: s >= MAPPED && s < SLOTS -> word[s] = WORD(UNCOMMITTED, NOBODY, 0, 1); s++
        :: else -> break
        od
    }
    atomic { run member(1); run member(2); run reaper() }
}
