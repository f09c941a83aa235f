// SPDX-License-Identifier: Apache-2.0
// Programs that are run when something happens: a service has its quorum, or has lost it. Floor 2.
//
// Never through a shell, each in a process group of its own, for at most HOOK_TIMEOUT_MS (then the group is killed), at
// most HOOK_AT_ONCE at a time. For one service they run one after another; what changes while one runs is told by the
// next, and only what counts then. Environment: BRASS_SERVICE, BRASS_QUORUM (up or down), BRASS_BACKENDS_UP,
// BRASS_BACKENDS_NEEDED, PATH; no input, output nowhere, errors where the director's go.
#ifndef BRASS_DIRECTOR_HOOK_H
#define BRASS_DIRECTOR_HOOK_H

#include "shared/clock.h"
#include "shared/err.h"
#include "shared/out.h"
#include "shared/util.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#define HOOK_WORDS_MAX 16
#define HOOK_WORD_MAX 255
#define HOOK_TIMEOUT_MS 30000
#define HOOK_AT_ONCE 8

// A program with its arguments; count 0: none.
struct hook_program {
	uint32_t count;
	char words[HOOK_WORDS_MAX][HOOK_WORD_MAX + 1];
};

// As a field: ["/usr/local/sbin/announce", "up"]. The first word is the path of a file that can be run.
int hook_parse_program(const json_t *json, void *member, struct err *err);
bool hook_print_program(const void *member, struct out *out);

struct hook;

int hook_new(uv_loop_t *loop, struct hook **ret, struct err *err);
// Which programs are run from now on; copied.
void hook_set(struct hook *hook, const struct hook_program *up, const struct hook_program *down);
// Programs that run go on by themselves; those that wait are not run. The memory goes when the loop has run once more.
void hook_free(struct hook *hook);

void hook_quorum(struct hook *hook, const char *service, bool there, uint32_t up, uint32_t needed);

#endif
