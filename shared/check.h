// SPDX-License-Identifier: Apache-2.0
// One health check of one real server: described by a field table (GORB's "pulse"), run once by check_start. Floor 3.
//
// A kind is one file (check_tcp.c, check_http.c, check_exec.c) and one row in check.c. When a check is over its
// callback gets a named outcome and a sentence; who asks again, and what follows from it, is the caller's business.
//
// exec runs a program of this host: whoever may write the check may run anything as the daemon's user. It comes from
// files of root alone; the director refuses it (model_check.c).
#ifndef BRASS_SHARED_CHECK_H
#define BRASS_SHARED_CHECK_H

#include "shared/clock.h"
#include "shared/field.h"
#include "shared/http_client.h"
#include "shared/inet.h"
#include "shared/sockpath.h"

#include <stdint.h>
#include <uv.h>

enum check_kind { CHECK_NONE, CHECK_TCP, CHECK_HTTP, CHECK_EXEC };

// Which way the packets of a director's check take.
enum check_via {
	CHECK_VIA_AUTO, // as traffic does, where that is not nat and the check goes to the service's own port
	CHECK_VIA_RIP,  // straight to the real server's own address
	CHECK_VIA_VIP,  // to the VIP, as traffic does
};
extern const struct field_choice check_via_choices[];

enum check_outcome {
	CHECK_PASS,
	CHECK_REFUSED,     // the host answered that nobody listens
	CHECK_TIMEOUT,     // no answer in time
	CHECK_UNREACHABLE, // no route, no neighbour
	// an ICMP message said no; told apart only where the path asks for explanations
	CHECK_NO_PORT,     // port unreachable
	CHECK_NO_PROTOCOL, // protocol unreachable
	CHECK_PROHIBITED,  // by a filter
	CHECK_WRONG,       // an answer, but not the expected one
	CHECK_BROKEN,      // the check itself could not be carried out
};

#define CHECK_COMMAND_MAX 256
struct check_args {
	char method[16];
	uint32_t port; // 0: the backend's own
	char path[256];
	char host[128];                  // Host header; "": the address
	uint32_t expect;                 // HTTP status
	char command[CHECK_COMMAND_MAX]; // exec: words with a zero behind each, and one more; the first is a path
	char user[33];                   // exec: "": the daemon's own
	uint32_t uid, gid;               // of user, by check_find_user
};

struct check_spec {
	uint64_t set;
	int kind; // enum check_kind
	msec_t interval_ms;
	msec_t timeout_ms;
	int via;        // enum check_via
	bool full_size; // a packet of the check is as large as the path should carry
	struct check_args args;
};

extern const struct field_table check_fields;
// As the table's defaults make them, but for the kind, as initialisers.
#define CHECK_ARGS_DEFAULTS                                 \
	{                                                   \
		.method = "GET", .path = "/", .expect = 200 \
	}
#define CHECK_SPEC_DEFAULTS .interval_ms = 60000, .timeout_ms = 5000, .args = CHECK_ARGS_DEFAULTS

// What is checked, and how its packets go there: with a mark the socket is connected to the VIP, and the packets come
// out at one real server.
struct check_target {
	struct inet_endpoint to;   // connected to
	struct inet_endpoint real; // the real server, when `to` is a VIP; for people
	struct sockpath path;
	uint32_t full_size; // bytes: one packet at least shall be as large, and may not be cut; 0: as they come
};

// "10.0.0.11:80", "10.0.0.11:80 via VIP 10.0.0.100". Returns buf.
#define CHECK_TARGET_MAX (2 * INET_ENDPOINT_MAX + 16)
const char *check_target_format(const struct check_target *target, char buf[CHECK_TARGET_MAX]);
// The path, with segments that fill a packet of full_size.
struct sockpath check_path(const struct check_target *target);

// What a check runs on; outlives every check.
struct check_env {
	uv_loop_t *loop;
	struct http_client *http;
	const char *service; // exec: what the program is told; NULL: nothing
	int protocol;        // IPPROTO_*, likewise; 0
};

typedef void (*check_done_fn)(void *ctx, enum check_outcome outcome, const char *reason);

// A running check; each kind embeds it first in a struct of its own.
struct check {
	const struct check_type *type;
	check_done_fn done;
	void *ctx;
	char what[CHECK_TARGET_MAX + 32]; // "connect to 10.0.0.11:80", for reasons
};

struct check_type {
	const char *name;
	int (*start)(const struct check_env *env, const struct check_spec *spec, const struct check_target *target,
		struct check **ret);
	void (*cancel)(struct check *check); // ends it without a callback and frees it
};

// Starts one check of the target (args.port overrides its port). done is called once, later, never from inside this
// call, and the check is then gone. CHECK_NONE is not started: -EINVAL. Returns 0 or -errno.
int check_start(const struct check_env *env, const struct check_spec *spec, const struct check_target *target,
	check_done_fn done, void *ctx, struct check **ret);

void check_cancel(struct check *check); // NULL is allowed

// What the table cannot say: exec needs a command, and nothing else has one. 0 or -EINVAL.
int check_complete(const struct check_spec *spec, struct err *err);
// exec: looks up args.user (getpwnam(3), which may take its time). 0 or -EINVAL.
int check_find_user(struct check_args *args, struct err *err);

// For the kinds: the outcome that an errno of connect(2) stands for.
enum check_outcome check_outcome_of(int error);

// An outcome in a word, for people: "connected", "refused", "no answer".
const char *check_outcome_name(enum check_outcome outcome);

extern const struct check_type check_tcp, check_http, check_exec;

// For the field table: args.command.
int check_parse_command(const json_t *json, void *member, struct err *err);
bool check_print_command(const void *member, struct out *out);

#endif
