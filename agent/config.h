// SPDX-License-Identifier: Apache-2.0
// The agent's configuration: options over a YAML file, one field table for both. Floor 5.
#ifndef BRASS_AGENT_CONFIG_H
#define BRASS_AGENT_CONFIG_H

#include "agent/client.h"
#include "agent/local.h"
#include "agent/spec.h"
#include "shared/clock.h"
#include "shared/confile.h"
#include "shared/field.h"
#include "shared/inet.h"
#include "shared/protocol.h"

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONFIG_DIRECTORS_MAX 16
#define CONFIG_DRAIN_MAX_MS 86400000
#define CONFIG_ALLOWED_MAX 64
static_assert(2 * CONFIG_DIRECTORS_MAX + CONFIG_ALLOWED_MAX <= SPEC_ALLOWED_MAX, "two addresses of each director");

struct config_backend {
	uint64_t set;
	char service[PROTOCOL_NAME_MAX + 1];
	uint16_t port; // 0: the service's
	int method;    // enum forward_method
	struct tunnel_options tunnel;
	char device[IFNAMSIZ]; // "": lo
	struct local_check check;
	struct config_weight {
		uint32_t base, min;
		bool by_pressure; // falls from base to min with the load of this host
	} weight;
	struct labels labels; // those of the host included
	bool leaving;         // no longer in the file: it is here until it is drained
};

// A VIP without a director.
struct config_static {
	uint64_t set;
	struct inet_addr host; // VIP
	uint16_t port;         // 0: not said: any, and nobody looks for a program
	int protocol;          // IPPROTO_*
	int method;            // enum forward_method
	struct tunnel_options tunnel;
	char device[IFNAMSIZ];    // "": lo
	struct inet_addr gateway; // nat
};

struct config {
	uint64_t set;
	char node[PROTOCOL_NAME_MAX + 1];
	struct inet_addr address; // not set: the one that routes to the director
	struct inet_addr gateway; // not set: the director's address
	struct config_directors {
		char urls[CONFIG_DIRECTORS_MAX][CLIENT_URL_MAX];
		size_t count;
	} directors;
	bool insecure;
	struct labels labels; // of all backends
	msec_t drain_ms, ttl_ms, check_interval_ms;
	char run_dir[256];
	uint32_t nat_table, nat_priority, mss_table, mss_priority;
	struct spec_devices devices;
	bool manage_all;
	struct config_lockdown {
		bool off;
		struct inet_prefix allowed[CONFIG_ALLOWED_MAX]; // beside the directors
		size_t count;
	} lockdown;
	struct config_backends {
		struct config_backend *items; // sorted by service
		size_t count;
	} backends;
	struct config_statics {
		struct config_static *items;
		size_t count;
	} statics;
	int log_level;
};

extern const struct field_table config_fields, config_backend_fields, config_static_fields;

// Reads path (NULL: no file) with the options laid over it. On a mistake message is one line that names file, line and
// field. Returns 0 or -errno. The result is freed with config_clear.
int config_read(const char *path, const json_t *options, struct config *ret, char message[CONFILE_MESSAGE_MAX]);
// The same without a file, for those who want to know no more than run_dir.
int config_read_bare(const json_t *options, struct config *ret, char message[CONFILE_MESSAGE_MAX]);
void config_clear(struct config *config);

#endif
