// SPDX-License-Identifier: Apache-2.0
// Do this host's own programs serve? A listening socket on the service's address, or a check of it from here. Floor 4.
//
// Sockets are looked at once a second, since the kernel tells of no new listener; nothing is opened. A check is one of
// shared/check.h, run at its own interval against the address as clients know it (the VIP; nat: the RIP).
#ifndef BRASS_AGENT_LOCAL_H
#define BRASS_AGENT_LOCAL_H

#include "shared/check.h"
#include "shared/err.h"
#include "shared/http_client.h"
#include "shared/inet.h"

#include <uv.h>

struct local;

// Who says whether the program serves.
enum local_kind {
	LOCAL_LISTEN, // a socket is there
	LOCAL_NONE,   // nobody
	LOCAL_CHECK,
};
struct local_check {
	int kind; // enum local_kind
	struct check_spec spec;
};

// changed is called from the loop when what local_problem says may have changed.
int local_new(uv_loop_t *loop, struct http_client *http, void (*changed)(void *ctx), void *ctx, struct local **ret,
	struct err *err);
void local_free(struct local *local); // its memory goes when the loop has run once more

// One endpoint of this host that clients use.
struct local_item {
	struct inet_endpoint at;
	int protocol;                    // IPPROTO_TCP, _UDP; of others sockets are not looked for
	const struct local_check *check; // copied
};

// Another client for checks by HTTP; until now there may have been none.
void local_use_http(struct local *local, struct http_client *http);
// What matters from now on; what was known of the same endpoint stays until somebody has looked again. Looks at the
// sockets at once. 0 or -ENOMEM: then nothing is known of new items.
int local_want(struct local *local, const struct local_item *items, size_t count);
// Why nobody answers there; "" when somebody does, or when nobody is to look. NULL: not known yet.
const char *local_problem(const struct local *local, const struct local_item *item);

#endif
