// SPDX-License-Identifier: Apache-2.0
// What the director has been told: virtual services, their backends, the agents that registered some of them. Floor 1.
//
// Plain data with lookup; nothing here knows the kernel, the store or the clock. Names are unique: a service's in the
// model, a backend's in its service, an agent's (node) in the model. Objects are owned by the model and freed with it.
// Options are read, printed and documented by the field tables at the end; validation across fields is here, too.
#ifndef BRASS_DIRECTOR_MODEL_H
#define BRASS_DIRECTOR_MODEL_H

#include "shared/check.h"
#include "shared/clock.h"
#include "shared/err.h"
#include "shared/field.h"
#include "shared/inet.h"
#include "shared/protocol.h"

#include <stdbool.h>
#include <stdint.h>
#include <uthash.h>

#define MODEL_NAME_MAX PROTOCOL_NAME_MAX
#define MODEL_SERVICES_MAX 200000
#define MODEL_BACKENDS_MAX 200000 // of one service
#define MODEL_AGENTS_MAX 100000

struct service_options {
	uint64_t set;
	struct inet_addr host; // VIP
	uint16_t port;
	int protocol;            // IPPROTO_TCP, IPPROTO_UDP
	char scheduler[16];      // GORB calls it "method"
	uint32_t flags;          // IP_VS_SVC_F_SCHED1..3
	uint32_t persistent_s;   // persistence timeout in seconds, 0: off
	bool ops;                // one-packet scheduling (UDP)
	struct check_spec pulse; // for backends without one of their own, agents' ones above all
};

struct backend_options {
	uint64_t set;
	struct inet_addr host; // RIP
	uint16_t port;         // 0 only while being read: the service's own
	uint32_t weight;
	int method; // enum forward_method
	struct check_spec pulse;
};

// The last 100 results of a backend's pulse, as GORB counts them. Kept by health.c.
#define MODEL_HEALTH_RING 100
struct backend_health {
	bool down;
	uint8_t results[MODEL_HEALTH_RING]; // 1: passed
	uint8_t filled, next, passed;
	msec_t since_ms; // of the present verdict, monotonic; 0: never checked
	char reason[PROTOCOL_REASON_MAX + 1];
};

struct service;
struct agent;

struct backend {
	UT_hash_handle hh; // in service->backends
	char name[MODEL_NAME_MAX + 1];
	struct service *service;
	struct backend_options options;
	struct backend_health health;
	// set when an agent made it (origin "agent"), else NULL
	struct agent *agent;
	struct backend *agent_next; // in agent->backends
	int agent_state;            // enum protocol_state
	char agent_reason[PROTOCOL_REASON_MAX + 1];
	void *pulse; // owned by health.c
};

struct service {
	UT_hash_handle hh;     // in model->services, by name
	UT_hash_handle hh_key; // in model->by_key
	char name[MODEL_NAME_MAX + 1];
	struct service_key {
		struct inet_endpoint vip;
		int protocol;
	} key;
	struct service_options options;
	struct backend *backends;
};

struct agent {
	UT_hash_handle hh; // in model->agents
	char node[MODEL_NAME_MAX + 1];
	struct inet_addr address;
	char boot[PROTOCOL_BOOT_MAX + 1];
	msec_t ttl_ms;
	msec_t deadline_ms; // monotonic
	msec_t reap_ms;     // monotonic; when a lost agent's backends are removed
	bool lost;
	uint32_t revision;             // grows with every change that this agent should hear of
	struct protocol_report report; // the last one, owned
	struct backend *backends;      // by agent_next
	void *waiter;                  // its held request, owned by api_agent.c
};

struct model {
	struct service *services, *by_key;
	struct agent *agents;
};

struct service *model_service(const struct model *model, const char *name);
struct service *model_service_by_key(const struct model *model, const struct service_options *options);
struct backend *model_backend(const struct service *service, const char *name);
// The backend with this address and port, NULL when there is none. Walks the service's backends.
struct backend *model_backend_at(const struct service *service, const struct inet_addr *host, uint16_t port);
struct agent *model_agent(const struct model *model, const char *node);

// Add: the name must be free. NULL without memory.
struct service *model_add_service(struct model *model, const char *name, const struct service_options *options);
struct backend *model_add_backend(
	struct service *service, const char *name, const struct backend_options *options, struct agent *agent);
struct agent *model_add_agent(struct model *model, const char *node);

// Replaces options; the key (address, port, protocol) must stay the same.
void model_set_service(struct service *service, const struct service_options *options);

void model_remove_service(struct model *model, struct service *service); // with its backends
void model_remove_backend(struct backend *backend);
void model_remove_agent(struct model *model, struct agent *agent); // its backends must be gone
void model_clear(struct model *model);

// Across fields: what the tables cannot say. 0 or -EINVAL with field and sentence.
int model_check_service(const struct service_options *options, struct err *err);
int model_check_backend(const struct service *service, struct backend_options *options, struct err *err);
// New service options must suit the backends that are there.
int model_check_service_change(const struct service *service, const struct service_options *options, struct err *err);

// The check that this backend gets: its own pulse, or the service's.
const struct check_spec *model_pulse(const struct backend *backend);

extern const struct field_table service_fields, backend_fields;

#endif
