// SPDX-License-Identifier: Apache-2.0
// One question to the director's REST API, asked and waited for.
#ifndef BRASS_CLI_REQUEST_H
#define BRASS_CLI_REQUEST_H

#include "shared/err.h"
#include "shared/util.h"

#include <jansson.h>
#include <stddef.h>

#define REQUEST_TIMEOUT_MS 10000l        // for the whole exchange
#define REQUEST_ANSWER_MAX (256ul << 20) // bytes

struct answer {
	json_t *json; // parsed: an object
	char *body;   // as it came, zero-terminated
	size_t len;
};

// GET director/resource[/name][?query]. name is any text, it is encoded here; name and query may be NULL.
// Returns 0, or -errno with a sentence that begins with the director's URL when it could not be asked or did not
// answer with JSON, and that is the director's own when it refused: -ENOENT, -EREMOTEIO.
int request_get(const char *director, const char *resource, const char *name, const char *query, struct answer **ret,
	struct err *err);

void answer_free(struct answer *answer);
DEFINE_CLEANUP(struct answer *, answer_free)

#endif
