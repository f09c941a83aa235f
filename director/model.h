// SPDX-License-Identifier: Apache-2.0
// What the director has been told: virtual services, their backends, the agents that registered some of them. Floor 1.
//
// Plain data with lookup; nothing here knows the kernel, the store or the clock. Names are unique: a service's in the
// model, a backend's in its service, an agent's (node) in the model; so are a service's key and a backend's address and
// port in its service. Objects are owned by the model and freed with it.
//
// Requests carry struct service_options and struct backend_options, plain values without pointers, read, printed and
// documented by the field tables (model_fields.c). A model may hold 100,000 backends, so what is large and mostly not
// used (checks, labels, splits) is kept beside them: model_service_options and model_backend_options put it together
// again.
#ifndef BRASS_DIRECTOR_MODEL_H
#define BRASS_DIRECTOR_MODEL_H

#include "director/ipvs_key.h"
#include "director/judge.h"
#include "director/passive.h"
#include "director/pool.h"
#include "shared/check.h"
#include "shared/clock.h"
#include "shared/err.h"
#include "shared/field.h"
#include "shared/inet.h"
#include "shared/labels.h"
#include "shared/protocol.h"

#include <stdbool.h>
#include <stdint.h>
#include <uthash.h>

#define MODEL_NAME_MAX PROTOCOL_NAME_MAX
#define MODEL_SERVICES_MAX 200000
#define MODEL_BACKENDS_MAX 200000 // of one service
#define MODEL_AGENTS_MAX 100000
#define MODEL_SHARES_MAX 256

// Shares of new connections by the value of a label: {"label": "version", "shares": {"a": 99, "b": 1}}.
struct split_options {
	char label[LABEL_MAX + 1]; // "": no split
	uint32_t count;
	struct split_share {
		char value[LABEL_MAX + 1];
		uint32_t share;
	} shares[MODEL_SHARES_MAX]; // as far as count
};

#define MODEL_NAMES_MAX 16
struct names {
	uint32_t count;
	char items[MODEL_NAMES_MAX][MODEL_NAME_MAX + 1]; // zero behind them: compared as they stand
};

// How a service is made of its backends, see pool.h.
struct pool_options {
	struct quorum_options {
		uint64_t set;
		uint32_t up, down; // down 0: as up
	} quorum;
	struct zones_options {
		uint64_t set;
		struct names prefer;
		uint32_t spill; // percent
	} zones;
	struct names sorry;
	uint32_t panic; // percent
};

#define ZONES_DEFAULTS .spill = 70
#define ZONE_LABEL "zone"

// Flags that were not given: of mh and sh the fallback, of others none.
#define MODEL_FLAGS_OF_SCHEDULER UINT32_MAX

// Instead of a time: a backend's weight follows its record of checks.
#define SLOW_ACCUMULATED (-1)

// clang-format off
#define SERVICE_CORE \
	uint64_t set; \
	struct inet_addr host; /* VIP; not set for a firewall mark */ \
	uint16_t port;         /* 0: all ports, or a firewall mark */ \
	int protocol;          /* IPPROTO_TCP, _UDP, _SCTP */ \
	uint32_t fwmark;       /* 0: by host, port and protocol */ \
	int family;            /* AF_INET or AF_INET6; of a firewall mark, else as the host */ \
	char scheduler[16];    /* GORB calls it "method" */ \
	uint32_t flags;        /* IP_VS_SVC_F_SCHED1..3, or MODEL_FLAGS_OF_SCHEDULER */ \
	uint32_t persistent_s; /* persistence timeout in seconds, 0: off */ \
	uint32_t prefix;       /* clients of one prefix of this length persist together; 0: each address alone */ \
	char engine[16];       /* persistence engine; "": none */ \
	bool ops;              /* one-packet scheduling (UDP) */ \
	msec_t slow_start_ms   /* who comes back gets its weight over this time; 0: at once; or SLOW_ACCUMULATED */

#define BACKEND_CORE \
	uint64_t set; \
	struct inet_addr host;        /* RIP */ \
	uint16_t port;                /* 0: as the packet has it; only where the service has none either */ \
	uint32_t weight; \
	int method;                   /* enum forward_method */ \
	uint32_t upper, lower;        /* connection thresholds, 0: none */ \
	struct tunnel_options tunnel
// clang-format on

struct service_core {
	SERVICE_CORE;
};

struct service_options {
	union {
		struct service_core core;
		struct {
			SERVICE_CORE;
		};
	};
	struct check_spec pulse; // for backends that agents register
	struct judge_rules judge;
	struct pool_options pool;
	struct split_options split;
};

struct backend_core {
	BACKEND_CORE;
};

struct backend_options {
	union {
		struct backend_core core;
		struct {
			BACKEND_CORE;
		};
	};
	struct check_spec pulse;
	struct labels labels;
};

// A check, once for all backends and services that have it.
struct shared_check {
	UT_hash_handle hh; // in model->checks
	unsigned int users;
	struct check_spec spec; // key, as field_parse made it
};

// The way of traffic to one real server, for checks that go along it: the firewall mark of a service in the kernel that
// has this real server only. It knows no VIP, so that all services with backends there share it.
struct probe_path {
	UT_hash_handle hh;     // in model->paths, by way
	UT_hash_handle hh_key; // in model->paths_by_key
	unsigned int users;
	struct probe_way {
		struct inet_endpoint to; // RIP; port 0: as the packet has it
		sa_family_t family;      // of the packets
		int method;              // enum forward_method
		struct tunnel_options tunnel;
	} way;
	struct ipvs_key key;     // the mark
	bool refused;            // the kernel does not take it
	bool unheard;            // nothing came back, and perhaps it is this host that drops it
	bool counts;             // its silence is the real server's: it was so once
	int ifindex;             // where answers come in; 0: not known yet
	struct inet_addr source; // of the last check; not set before the first
	char *problem;           // why checks cannot go this way at present, for people; NULL: they can
};

// The last 100 results of a backend's pulse, as GORB counts them. Kept by health.c.
#define MODEL_HEALTH_RING 100
struct backend_health {
	struct judge judge;
	uint8_t results[MODEL_HEALTH_RING]; // 1: passed
	uint8_t filled, next, passed;
	int64_t expires_s;                    // of the real server's certificate, seconds since 1970; 0: it showed none
	char reason[PROTOCOL_REASON_MAX + 1]; // of the last failure
};

// A backend on its way out: no new connections, and it goes when there is no active one left or at the deadline.
struct drain {
	struct drain *prev, *next; // in model->drains
	struct backend *backend;
	msec_t started_ms, deadline_ms; // monotonic
	uint32_t active;                // connections when last looked
};

// A backend on its way back: it gets its weight little by little (slow_start of its service).
struct comeback {
	struct comeback *prev, *next; // in model->comebacks
	struct backend *backend;
	msec_t started_ms; // monotonic
	uint32_t part;     // of the weight that it has now, in thousandths
};

// A backend that may not be answering the connections that it gets.
struct suspect {
	struct suspect *prev, *next; // in model->suspects
	struct backend *backend;
	struct passive passive;
	bool asked;   // the table of connections is to be looked at
	bool looking; // it is
	bool kept;    // it would be out, but for the half of its service that may not
	char reason[sizeof("passive: ") + PASSIVE_TEXT_MAX];
};

struct service;
struct agent;

struct backend {
	UT_hash_handle hh, hh_place;
	struct backend *prev, *next; // in its service, in order of arrival
	struct backend_core options;
	struct shared_check *pulse;    // NULL: none
	struct labels *labels;         // NULL: none
	struct backend_health *health; // NULL: it has no pulse
	struct drain *drain;           // NULL: it stays
	struct comeback *comeback;     // NULL: it has all of its weight
	struct suspect *suspect;       // NULL: nothing speaks against it
	// set when an agent made it (origin "agent"), else NULL
	struct agent *agent;
	struct backend *agent_next; // in agent->backends
	char *agent_reason;         // NULL: none
	uint8_t agent_state;        // enum protocol_state
	uint8_t status;             // enum backend_status when last looked, see state_status.c
	uint32_t pool_weight;       // where it depends on the other backends, see desired.h
	void *watch;                // owned by health.c
	struct probe_path *path;    // that its pulse takes, counted; NULL: straight to its own address
	void *trouble;              // owned by diagnose.c
	struct {
		struct service *service;
		struct inet_endpoint at;
	} place; // hash key: address and port in the service
	// service and name are one hash key
	struct service *service;
	char name[];
};

struct service {
	UT_hash_handle hh;     // in model->services, by name
	UT_hash_handle hh_key; // in model->by_key
	struct model *model;
	char name[MODEL_NAME_MAX + 1];
	struct ipvs_key key;
	struct service_core options;
	struct shared_check *pulse;  // NULL: none
	struct judge_rules *judge;   // NULL: the defaults
	struct pool_options *pool;   // NULL: none
	struct split_options *split; // NULL: none
	struct backend *backends;    // a list, see backend->next
	uint32_t backend_count;
	uint32_t suspects;         // of them
	uint32_t passive_out;      // of the suspects
	struct pool_state serving; // how its backends serve together, when last worked out
	bool pool_due;             // that is to be worked out again
	struct service *pool_next;
	char *silent; // versions of the split without a healthy backend, for people; NULL: none
	bool leaving; // all of its backends drain, and it goes with the last
};

struct agent {
	UT_hash_handle hh;         // in model->agents
	UT_hash_handle hh_address; // in model->agents_by_address; several may have one address
	char node[MODEL_NAME_MAX + 1];
	struct inet_addr address;
	char boot[PROTOCOL_BOOT_MAX + 1];
	struct inet_addr source; // what our tunnel packets to it come from; not set: there are none
	msec_t ttl_ms;
	msec_t deadline_ms; // monotonic
	msec_t reap_ms;     // monotonic; when a lost agent's backends are removed
	bool lost;
	uint32_t revision;             // grows with every change that this agent should hear of
	struct protocol_report report; // the last one, owned
	struct backend *backends;      // by agent_next
	void *waiter;                  // its held request, owned by api_agent.c
	bool touched;                  // it hears of something at the end of the turn
	struct agent *touched_next;
};

// A walk over all services that may rest while the model changes. Between two steps `service` and `backend` are the
// ones to come next; what is removed meanwhile is stepped over.
struct model_cursor {
	struct model_cursor *prev, *next; // in model->cursors
	struct service *service;          // NULL: at the end
	struct backend *backend;
};

struct model {
	struct service *services, *by_key;
	struct backend *by_name, *by_place; // all backends
	struct shared_check *checks;
	struct probe_path *paths, *paths_by_key;
	struct agent *agents, *agents_by_address;
	struct drain *drains;
	struct comeback *comebacks;
	struct suspect *suspects;
	struct model_cursor *cursors;
};

struct service *model_service(const struct model *model, const char *name);
struct service *model_service_by_key(const struct model *model, const struct ipvs_key *key);
struct backend *model_backend(const struct service *service, const char *name);
// The backend with this address and port, NULL when there is none.
struct backend *model_backend_at(const struct service *service, const struct inet_endpoint *at);
struct agent *model_agent(const struct model *model, const char *node);
// The agent with this address, one of them if several have it; NULL when there is none.
struct agent *model_agent_at(const struct model *model, const struct inet_addr *address);

// Add: name, key and place must be free. NULL without memory.
struct service *model_add_service(struct model *model, const char *name, const struct service_options *options);
struct backend *model_add_backend(
	struct service *service, const char *name, const struct backend_options *options, struct agent *agent);
struct agent *model_add_agent(struct model *model, const char *node);
void model_set_agent_address(struct model *model, struct agent *agent, const struct inet_addr *address);

// Replace all options, key or place included (which must be free). 0 or -ENOMEM, then nothing was changed.
int model_set_service(struct service *service, const struct service_options *options);
int model_set_backend(struct backend *backend, const struct backend_options *options);

// The options as a request carries them.
void model_service_options(const struct service *service, struct service_options *ret);
void model_backend_options(const struct backend *backend, struct backend_options *ret);
void model_key(const struct service_options *options, struct ipvs_key *ret);

void model_remove_service(struct service *service);                // with its backends
void model_remove_backend(struct backend *backend);                // its watch must be gone
void model_remove_agent(struct model *model, struct agent *agent); // its backends must be gone
void model_clear(struct model *model);

// The backend's record of checks, made when there is none. NULL without memory.
struct backend_health *model_health(struct backend *backend);
// The verdict of its pulse; up when it has none.
enum judge_verdict model_verdict(const struct backend *backend);
// How results of its pulse are judged.
const struct judge_rules *model_judge(const struct backend *backend);
// A drain, begun anew when there is one. 0 or -ENOMEM.
int model_drain(struct backend *backend, msec_t now_ms, msec_t deadline_ms);
void model_undrain(struct backend *backend);
// The same for coming back, part of the weight at first.
int model_come_back(struct backend *backend, msec_t now_ms, uint32_t part);
void model_is_back(struct backend *backend);
// Its record as a suspect, made when there is none (NULL without memory), and away with it.
struct suspect *model_suspect(struct backend *backend);
void model_clear_suspect(struct backend *backend);
// It is out, or in again.
void model_suspect_out(struct suspect *suspect, msec_t now_ms);
void model_suspect_back(struct suspect *suspect, msec_t now_ms);
void model_set_agent_reason(struct backend *backend, const char *reason);

void model_cursor_start(struct model_cursor *cursor, struct model *model);
void model_cursor_to(struct model_cursor *cursor, struct service *service);
// The step to the next service.
void model_cursor_advance(struct model_cursor *cursor);
void model_cursor_stop(struct model_cursor *cursor, struct model *model);

// Across fields: what the tables cannot say. 0 or -EINVAL with field and sentence. Fill in what one field says of
// another (a backend's port). -- model_check.c
// folders: of the programs that checks may run; NULL: any, for what was let in before.
int model_check_service(struct service_options *options, const struct check_folders *folders, struct err *err);
int model_check_backend(const struct service_core *service, struct backend_options *options,
	const struct check_folders *folders, struct err *err);
// The part of it that is about both.
int model_check_fits(const struct service_core *service, const struct backend_core *options, struct err *err);
// New service options must suit the backends that are there. Key changes are the caller's business.
int model_check_service_fits(const struct service *service, const struct service_options *options, struct err *err);
// The first of the fields that name the service in the kernel (or the backend in its service) that differs, or NULL.
const char *model_moved_service(const struct service *service, const struct service_options *options);
const char *model_moved_backend(const struct backend *backend, const struct backend_options *options);

// Are they told to be the same, down to what was given and what was left to its default?
bool model_same_service(const struct service *a, const struct service *b);
bool model_same_backend(const struct backend *a, const struct backend *b);

// The check that this backend gets: its own pulse, or for an agent's backend the service's; NULL: none.
const struct check_spec *model_pulse(const struct backend *backend);
// Does a backend's weight depend on the others?
bool model_is_pool(const struct service *service);
// The value of a backend's label, NULL when it has none of that name.
const char *model_label(const struct backend *backend, const char *name);

// Which way the backend's pulse goes: *ret is the way, and true returned, when it is the traffic's.
bool model_probe_way(const struct backend *backend, struct probe_way *ret);
// The way of traffic to it, whatever its pulse does; port: of the check's own, 0: none. False where no way can be told:
// a service by firewall mark has no VIP to connect to.
bool model_traffic_way(const struct backend *backend, uint16_t port, struct probe_way *ret);
// Where a check of the backend connects to: at the VIP when it goes the traffic's way.
struct inet_endpoint model_probe_to(const struct backend *backend, bool along_path);
struct probe_path *model_path(const struct model *model, const struct probe_way *way);
struct probe_path *model_path_by_key(const struct model *model, const struct ipvs_key *key);
// Without users yet. NULL without memory.
struct probe_path *model_add_path(struct model *model, const struct probe_way *way, uint32_t mark);
void model_remove_path(struct model *model, struct probe_path *path);

// Scheduler flags as the kernel is to have them.
uint32_t model_flags(const struct service_core *options);

// -- model_fields.c, model_health_fields.c
extern const struct field_table service_fields, backend_fields, judge_fields, quorum_fields, zones_fields;

// -- model_health_fields.c
// A list of names as a field, and whether a name (NULL: no) is in it.
int model_parse_names(const json_t *json, void *member, struct err *err);
bool model_print_names(const void *member, struct out *out);
bool model_has_name(const struct names *names, const char *name);
// The field slow_start, a msec_t.
int model_parse_slow_start(const json_t *json, void *member, struct err *err);
bool model_print_slow_start(const void *member, struct out *out);

#endif
