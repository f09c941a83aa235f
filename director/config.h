// SPDX-License-Identifier: Apache-2.0
// The director's configuration: options over a YAML file, one field table for both. Floor 5.
#ifndef BRASS_DIRECTOR_CONFIG_H
#define BRASS_DIRECTOR_CONFIG_H

#include "director/hook.h"
#include "director/settings.h"
#include "director/sync.h"
#include "shared/check.h"
#include "shared/clock.h"
#include "shared/confile.h"
#include "shared/err.h"
#include "shared/field.h"
#include "shared/inet.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONFIG_LISTEN_MAX 8

struct config {
	uint64_t set;
	struct config_listen {
		struct inet_endpoint endpoints[CONFIG_LISTEN_MAX];
		size_t count;
	} listen;
	bool insecure;
	char store[512];
	char vip_device[16];
	msec_t resync_ms;
	msec_t reap_ms;
	uint32_t body_max, config_max;
	bool take_all;
	bool flush_on_exit;
	struct config_marks {
		uint32_t first, last; // 0: none
	} probe_marks;
	bool probe_settings;
	struct check_folders check_programs;
	struct hook_program on_quorum_up, on_quorum_down;
	json_t *services; // the state that is declared in the file, owned; NULL: none is
	int log_level;
	struct settings_wanted ipvs;
	struct sync_wanted sync; // declared when its bit is set
};

extern const struct field_table config_fields;

void config_clear(struct config *config);

// Reads path (NULL: no file) with the options laid over it. On a mistake message is one line
// that names file, line and field, and ret is to be cleared all the same. Returns 0 or -errno.
int config_read(const char *path, const json_t *options, struct config *ret, char message[CONFILE_MESSAGE_MAX]);

#endif
