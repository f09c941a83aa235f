// SPDX-License-Identifier: Apache-2.0
// The agent's local socket, RUN_DIR/agent.sock: one request, a line of JSON, and for an answer one such line, or one at
// each change while the connection is held. Floor 4.
//
//   {"word": "status"}  ->  {"version": ...}
//   {"word": "drain", "service": "mail"}  ->  {"error": "..."}
//
// Mode 0600: whoever may open it may ask for everything. A request is at most 4 KiB long and comes within 5 s; 32
// connections are served at once. A slow reader gets the latest document next, not every one.
#ifndef BRASS_AGENT_CONTROL_H
#define BRASS_AGENT_CONTROL_H

#include "shared/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

struct control;

struct control_word {
	const char *name;
	// Does what is asked, once; the sentence of err goes to the one who asked. NULL: there is nothing to do.
	int (*begin)(void *ctx, const json_t *request, struct err *err);
	// What to answer, now and after each change. New reference. *ret_more: this is not the last document.
	json_t *(*look)(void *ctx, const json_t *request, bool *ret_more);
	// Two documents that say the same; the second is not sent then. NULL: equal ones.
	bool (*same)(const json_t *a, const json_t *b);
};

// The words belong to the caller; a word without a name ends them. -EADDRINUSE: another agent is running.
int control_new(uv_loop_t *loop, const char *run_dir, const struct control_word *words, void *ctx, struct control **ret,
	struct err *err);
// What the words look at may have changed: those who wait hear of it within 50 ms. Costs nothing without them.
void control_changed(struct control *control);
// Removes the socket; the memory goes when the loop has run once more.
void control_free(struct control *control);

// --- the other side ---

// Is an agent running? Then a connection that answers.
bool control_is_there(const char *run_dir);
// Asks, and hands over each document until the other side ends or each returns false. An answer {"error"} is an error,
// -EINVAL. Returns 0 or -errno; -ENOENT and -ECONNREFUSED: no agent is running.
int control_talk(const char *run_dir, const json_t *request, bool (*each)(void *ctx, const json_t *document), void *ctx,
	struct err *err);
// The status, new reference.
int control_ask(const char *run_dir, json_t **ret, struct err *err);

#endif
