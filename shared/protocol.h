// SPDX-License-Identifier: Apache-2.0
// What agent and director say to each other: one definition for both ends. Floor 3.
//
//   PUT /agent/<node>[?wait=<ms>&revision=<n>]   body: struct protocol_report   answer: struct protocol_answer
//   DELETE /agent/<node>[?boot=<id>]             leaves at once
//
// The report registers, renews the lease and tells the state of every backend. With wait and revision the director
// holds its answer until something changed for this node since that revision, or wait is over. Both structs own their
// lists.
#ifndef BRASS_SHARED_PROTOCOL_H
#define BRASS_SHARED_PROTOCOL_H

#include "shared/clock.h"
#include "shared/err.h"
#include "shared/field.h"
#include "shared/inet.h"
#include "shared/labels.h"
#include "shared/tunnel.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PROTOCOL_NAME_MAX 64       // bytes of a service, backend or node name, without the final zero
#define PROTOCOL_BOOT_MAX 40       // bytes of a boot id
#define PROTOCOL_REASON_MAX 256    // bytes of a reason
#define PROTOCOL_BACKENDS_MAX 1024 // backends of one node
#define PROTOCOL_TTL_MIN_MS 1000
#define PROTOCOL_TTL_MAX_MS 3600000
#define PROTOCOL_WAIT_MAX_MS 60000

// A service's transport protocol, by its IP protocol number.
extern const struct field_choice transport_choices[];

// What the agent says of a backend. Only PROTOCOL_UP gets connections.
enum protocol_state {
	PROTOCOL_SETUP, // the host is being set up
	PROTOCOL_UP,    // read back: VIP, device conf, tunnel, route are right
	PROTOCOL_DOWN,  // something is wrong; reason says what
	PROTOCOL_DRAIN, // no new connections, please
};
extern const struct field_choice protocol_state_choices[];

struct protocol_backend {
	uint64_t set;
	char service[PROTOCOL_NAME_MAX + 1];
	uint16_t port; // 0: the service's own
	int method;    // enum forward_method
	struct tunnel_options tunnel;
	uint32_t weight;
	int state;            // enum protocol_state
	struct inet_addr vip; // the VIP that was read back; up counts only when it is the service's
	char reason[PROTOCOL_REASON_MAX + 1];
	struct labels *labels; // NULL: none
};

struct protocol_report {
	uint64_t set;
	struct inet_addr address; // RIP
	char boot[PROTOCOL_BOOT_MAX + 1];
	msec_t ttl_ms;
	size_t count;
	struct protocol_backend *backends; // sorted by service name
};

// What the director answers for one named service.
struct protocol_service {
	uint64_t set;
	char service[PROTOCOL_NAME_MAX + 1];
	// Not asked for: this is where that service was before it moved, and its last connections are still here. "":
	// the service itself.
	char of[PROTOCOL_NAME_MAX + 1];
	bool known;            // false: no such service yet; only error is filled in
	struct inet_addr host; // VIP
	uint16_t port;
	int protocol; // IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP
	int method;   // enum forward_method
	uint32_t effective_weight;
	char status[16];                     // "up", "down", "drain", "lost", "setup", "refused"
	uint32_t active, inactive;           // connections as the kernel counts them
	char error[PROTOCOL_REASON_MAX + 1]; // why the backend was not taken
};

struct protocol_answer {
	uint64_t set;
	uint32_t revision;
	msec_t ttl_ms;
	struct inet_addr source; // what the director's tunnel packets to this node come from; not set: there are none
	size_t count;
	struct protocol_service *services; // sorted by service name
};

// All four return 0 or -errno with a sentence; json values are new references; structs are freed with *_clear.
int protocol_report_from_json(const json_t *json, struct protocol_report *ret, struct err *err);
json_t *protocol_report_to_json(const struct protocol_report *report);
void protocol_report_clear(struct protocol_report *report);

int protocol_answer_from_json(const json_t *json, struct protocol_answer *ret, struct err *err);
json_t *protocol_answer_to_json(const struct protocol_answer *answer);
void protocol_answer_clear(struct protocol_answer *answer);

extern const struct field_table protocol_backend_fields;

#endif
