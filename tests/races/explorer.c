/* Every interleaving, and every kill, of a few processes and the reaper over the real core.
 *
 * Reads scenarios from stdin, one a line: two or three scripts, and settings:
 *
 *   slots=FFU      one letter a slot: F free, U uncommitted        (FF)
 *   queued=N       tickets that wait at the start                  (0)
 *   lap=N          tickets that went through the ring before       (0)
 *   before=X,Y,Z   what each member does before it all begins      (nothing)
 *   kills=N        members that may die                            (0)
 *   restarts=N     times the reaper may be started over            (0)
 *   preempt=N      bound on preemptions                            (1000: none)
 *   stale=N        bound on old values read; 0: memory is sequentially consistent
 *   death=N        on_death of the queue, as sp_on_death           (0)
 *   attempts=N     max_attempts of the queue                       (0)
 *
 * Prints the number of executions of each, or the schedule that failed, and stops.
 */
#include "explorer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

Scenario scenario;

static void set_before(char *value)
{
    for (int i = 0; value && i < MEMBERS; i++) {
        char *script = strsep(&value, ",");
        snprintf(scenario.before[i], MAX_SCRIPT, "%s", script);
    }
}

static bool set_number(const char *name, const char *value)
{
    const struct {
        const char *name;
        int *number;
    } numbers[] = {
        {"queued", &scenario.queued},     {"lap", &scenario.lap},
        {"kills", &scenario.kills},       {"restarts", &scenario.restarts},
        {"preempt", &scenario.preemptions}, {"stale", &scenario.stale},
        {"death", &scenario.death},       {"attempts", &scenario.attempts},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (!strcmp(name, numbers[i].name)) {
            *numbers[i].number = atoi(value);
            return true;
        }
    return false;
}

static bool set(char *word)
{
    char *value = strchr(word, '=');
    if (!value) {
        if (scenario.members == MEMBERS)
            return false;
        snprintf(scenario.script[scenario.members++], MAX_SCRIPT, "%s", word);
        return true;
    }
    *value++ = 0;
    if (!strcmp(word, "slots"))
        snprintf(scenario.slots, sizeof scenario.slots, "%s", value);
    else if (!strcmp(word, "before"))
        set_before(value);
    else
        return set_number(word, value);
    return true;
}

static bool parse(char *line)
{
    scenario = (Scenario){.slots = "FF", .preemptions = 1000};
    for (char *word = strtok(line, " \n"); word; word = strtok(NULL, " \n"))
        if (!set(word))
            return false;
    return scenario.members > 0;
}

int main(void)
{
    char line[256], said[256];
    while (fgets(line, sizeof line, stdin)) {
        snprintf(said, sizeof said, "%.*s", (int)strcspn(line, "\n"), line);
        if (!parse(line)) {
            fprintf(stderr, "not a scenario: %s\n", said);
            return 2;
        }
        printf("%s: ", said);
        fflush(stdout);
        script_prepare();
        printf("%lu executions\n", explore_all());
    }
    return 0;
}
