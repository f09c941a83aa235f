// SPDX-License-Identifier: Apache-2.0
// One question to the director's REST API, asked and waited for.
#ifndef BRASS_CLI_REQUEST_H
#define BRASS_CLI_REQUEST_H

#include "shared/err.h"
#include "shared/util.h"

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#define REQUEST_TIMEOUT_MS 10000l        // for the whole exchange
#define REQUEST_BODY_TIMEOUT_MS 300000l  // when a document is sent
#define REQUEST_ANSWER_MAX (256ul << 20) // bytes

struct answer {
	json_t *json; // parsed: an object or a list; NULL when something else was asked for
	char *body;   // as it came, zero-terminated
	size_t len;
};

struct question {
	const char *method;   // "GET", "PUT", "DELETE"
	const char *resource; // "service"
	const char *name;     // any text, it is encoded here, a slash in it parts two names; NULL: none
	const char *query;    // NULL: none
	const char *body;     // NULL: none
	size_t body_len;
	const char *body_type; // Content-Type
	const char *accept;    // Accept; NULL: JSON, and anything else is refused
};

// Asks director/resource[/name][?query]. Returns 0, or -errno with a sentence that begins with the director's URL when
// it could not be asked or did not answer with JSON, and that is the director's own when it refused: -ENOENT,
// -EREMOTEIO; then *ret is there as well when the answer says more (it has "errors"), else NULL.
int request_ask(const char *director, const struct question *question, struct answer **ret, struct err *err);

// Asks for what has happened since the event *id, and then for what happens: each event goes to each, and its id to
// *id. Ends only with an error: the director went away, or refused; id 0: from now on. Lines without an event are left
// out.
int request_follow(
	const char *director, uint64_t *id, void (*each)(void *ctx, const char *json), void *ctx, struct err *err);

void answer_free(struct answer *answer);
DEFINE_CLEANUP(struct answer *, answer_free)

#endif
