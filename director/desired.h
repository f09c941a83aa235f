// SPDX-License-Identifier: Apache-2.0
// What the kernel's table should hold, from model, health and leases. Pure. Floor 3.
#ifndef BRASS_DIRECTOR_DESIRED_H
#define BRASS_DIRECTOR_DESIRED_H

#include "director/ipvs.h"
#include "director/model.h"

// Why a backend has the weight it has. The first that applies, from the top.
enum backend_status {
	STATUS_LOST,  // its agent is silent
	STATUS_SETUP, // its agent is still setting the host up
	STATUS_DRAIN, // its agent asked for no new connections
	STATUS_DOWN,  // its agent or its pulse says that it cannot serve
	STATUS_UP,
};

extern const struct field_choice backend_status_choices[]; // "lost", "setup", ...

enum backend_status desired_status(const struct backend *backend);
// Why it is not up, "" when it is.
const char *desired_reason(const struct backend *backend);
uint32_t desired_weight(const struct backend *backend);

void desired_key(const struct service_options *options, struct ipvs_key *ret);
void desired_service(const struct service *service, struct ipvs_service *ret);
void desired_dest(const struct backend *backend, struct ipvs_dest *ret);
// The backend's destination in a list sorted by ipvs_dest_cmp, NULL when it is not there.
const struct ipvs_dest *desired_find_dest(const struct ipvs_dest *dests, size_t count, const struct backend *backend);
// All destinations of a service, sorted by ipvs_dest_cmp, in a new array. 0 or -ENOMEM.
int desired_dests(const struct service *service, struct ipvs_dest **ret, size_t *ret_count);

#endif
