// SPDX-License-Identifier: Apache-2.0
// What the files of the configuration share. Floor 5.
#ifndef BRASS_AGENT_CONFIG_PARTS_H
#define BRASS_AGENT_CONFIG_PARTS_H

#include "agent/config.h"

// A device for VIPs, a char[IFNAMSIZ]; "lo" is "".
int config_parse_device(const json_t *json, void *member, struct err *err);
bool config_print_device(const void *member, struct out *out);
// Do they go together? Fills in the port of gue.
int config_check_method(int method, struct tunnel_options *tunnel, const char *device, struct err *err);

// Reads "backends" into a struct config_backends.
int config_parse_backends(const json_t *json, void *member, struct err *err);
// Reads "static" into a struct config_statics.
int config_parse_statics(const json_t *json, void *member, struct err *err);

#endif
