// SPDX-License-Identifier: Apache-2.0
// One health check of one real server: described by a field table (GORB's "pulse"), run once by check_start. Floor 3.
//
// A kind is one file (check_tcp.c, check_http.c, ...) and one row in check.c; its arguments are rows in
// check_fields.c. When a check is over its callback gets a named outcome and a sentence; who asks again, and what
// follows from it, is the caller's business.
//
// exec runs a program of this host: whoever may write the check may run anything as the daemon's user. It comes from
// files of root alone, or from the folders that check_env names.
#ifndef BRASS_SHARED_CHECK_H
#define BRASS_SHARED_CHECK_H

#include "shared/clock.h"
#include "shared/field.h"
#include "shared/http_client.h"
#include "shared/inet.h"
#include "shared/sockpath.h"

#include <stdint.h>
#include <uv.h>

enum check_kind {
	CHECK_NONE,
	CHECK_TCP,
	CHECK_HTTP,
	CHECK_HTTPS,
	CHECK_UDP,
	CHECK_DNS,
	CHECK_GRPC,
	CHECK_EXEC,
	CHECK_AGENT, // what the real server's agent reports
	CHECK_ALL,   // several, of which all must pass
	CHECK_ANY,   // several, of which one must
	CHECK_KINDS
};

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
	// the check itself could not be carried out: that is this host's fault, and says nothing of the real server
	CHECK_BROKEN,
};

#define CHECK_COMMAND_MAX 256
#define CHECK_TEXT_MAX 256 // of what is sent or answered
#define CHECK_PARTS_MAX 8  // of all and any
// Zero behind every text: compared as they stand.
struct check_args {
	char method[16];
	uint32_t port; // 0: the backend's own
	char path[256];
	char host[128];                  // Host header; "": the name of sni, or the address
	char expect[64];                 // http: statuses, such as "200,300-399"
	char command[CHECK_COMMAND_MAX]; // exec: words with a zero behind each, and one more; the first is a path
	char user[33];                   // exec: "": the daemon's own
	char send[CHECK_TEXT_MAX];       // tcp, udp: what is sent
	char answer[CHECK_TEXT_MAX];     // tcp, udp: what the answer has in it; dns: one of the answers; "": any
	char headers[384];               // http: lines "Name: value", each with its end of line
	struct check_body {
		bool regex;        // the pattern is a regular expression (check_regex.h); else a part of the body
		char pattern[192]; // "": the body is not looked at
	} body;
	int http_version;                  // 1 or 2
	bool tls;                          // grpc over TLS
	bool verify;                       // TLS: the other side's certificate
	char ca[128], cert[128], key[128]; // PEM files; "": the system's CAs, no certificate, in cert
	char sni[128];                     // the name that is asked for and verified; "": the address
	char name[256];                    // dns: what is asked for; grpc: the service
	int record;                        // dns: type of the record
	char parts[768];                   // all, any: the checks as JSON, see check_part
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

extern const struct field_table check_fields, check_arg_fields;
// As the table's defaults make them, but for the kind, as initialisers.
#define CHECK_RECORD_A 1 // RFC 1035
#define CHECK_ARGS_DEFAULTS                                                                       \
	{                                                                                         \
		.method = "GET", .path = "/", .expect = "200", .http_version = 1, .verify = true, \
		.record = CHECK_RECORD_A                                                          \
	}
#define CHECK_SPEC_DEFAULTS .interval_ms = 60000, .timeout_ms = 5000, .args = CHECK_ARGS_DEFAULTS

// Whom a check is for; exec tells its program.
struct check_about {
	const char *service, *backend; // backend NULL: this host
	struct inet_addr vip;
	int protocol; // IPPROTO_*
};

// What is checked, and how its packets go there: with a mark the socket is connected to the VIP, and the packets come
// out at one real server.
struct check_target {
	struct inet_endpoint to;   // connected to
	struct inet_endpoint real; // the real server, when `to` is a VIP; for people
	struct sockpath path;
	uint32_t full_size; // bytes: one packet at least shall be as large, and may not be cut; 0: as they come
	const struct check_about *about; // NULL: nobody says
};

// "10.0.0.11:80", "10.0.0.11:80 via VIP 10.0.0.100". Returns buf.
#define CHECK_TARGET_MAX (2 * INET_ENDPOINT_MAX + 16)
const char *check_target_format(const struct check_target *target, char buf[CHECK_TARGET_MAX]);
// The real server's own place, whichever way the packets go.
const struct inet_endpoint *check_target_real(const struct check_target *target);
// The path, with segments that fill a packet of full_size.
struct sockpath check_path(const struct check_target *target);

// Folders whose programs exec may run; each an absolute path.
#define CHECK_FOLDERS_MAX 8
struct check_folders {
	uint32_t count;
	char items[CHECK_FOLDERS_MAX][128];
};

// Programs that were killed when their time was over, or with their check, and that have not ended yet: while there is
// one, exec starts no other of the same words for the same real server. Zeroed when it begins.
struct check_lingering {
	struct exec_check *programs;
};
// Before it goes; the programs may end later.
void check_forget_lingering(struct check_lingering *lingering);

// What a check runs on; outlives every check.
struct check_env {
	uv_loop_t *loop;
	struct http_client *http;
	// exec runs programs of these only; NULL: any
	const struct check_folders *folders;
	struct check_lingering *lingering; // NULL: nobody looks
	// agent: what is known of the real server's agent, and why it is not well; NULL: there are none
	enum check_outcome (*ask_agent)(void *ctx, const struct inet_endpoint *real, const char **ret_why);
	void *ctx;
};

struct check_result {
	enum check_outcome outcome;
	const char *reason; // valid during the callback
	int64_t expires_s;  // of the certificate, seconds since 1970; 0: it showed none
};

typedef void (*check_done_fn)(void *ctx, const struct check_result *result);

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

// What the table cannot say: which arguments go with which kind, and what they must look like there. 0 or -EINVAL.
int check_complete(const struct check_spec *spec, struct err *err);
// exec: who runs the program; name "": the daemon's own user, ids 0. getpwnam(3), which reads files as a rule. 0 or
// -EINVAL.
struct check_user {
	uint32_t uid, gid;
};
int check_find_user(const char *name, struct check_user *ret, struct err *err);
// Does it run a program, itself or among its parts?
bool check_is_exec(const struct check_spec *spec);
// exec, also among the parts of a group: may this program be run? 0 or -EACCES with a sentence; folders NULL: any.
int check_may_exec(const struct check_spec *spec, const struct check_folders *folders, struct err *err);

// Does the kind speak TCP to the real server? Of those that may speak anything (exec, agent, all, any): otherwise.
bool check_speaks_tcp(int kind, bool otherwise);
// Does this outcome say that an answer came back the way that the packets of a target with this port and a mark went?
bool check_heard(const struct check_spec *spec, enum check_outcome outcome, uint16_t port);
const char *check_kind_name(int kind);

// all, any: the checks that it is made of, as the field was read. Returns how many, or -EINVAL.
int check_parts(const struct check_args *args, struct check_spec ret[CHECK_PARTS_MAX]);

// --- for the kinds ---

// The outcome that an errno of connect(2) stands for.
enum check_outcome check_outcome_of(int error);
// The outcome that an error of check_start stands for.
enum check_outcome check_outcome_of_start(int kind, int error);
// What a failed socket of a path that explains was told; outcome and why stay where it was nothing.
void check_explain(int fd, enum check_outcome *outcome, const char **why);

// An HTTP request over a connection of its own, of which the status alone is looked at. request is taken over.
int check_tcp_http(const struct check_env *env, const struct check_spec *spec, const struct check_target *target,
	char *request, size_t len, struct check **ret);

// An outcome in a word, for people: "connected", "refused", "no answer".
const char *check_outcome_name(enum check_outcome outcome);

extern const struct check_type check_tcp, check_http, check_udp, check_dns, check_grpc, check_exec, check_agent,
	check_group;

// For the field table: args.command.
int check_parse_command(const json_t *json, void *member, struct err *err);
bool check_print_command(const void *member, struct out *out);

#endif
