// SPDX-License-Identifier: Apache-2.0
// What the kernel's table should hold, from model, health and leases. Pure. Floor 3.
#ifndef BRASS_DIRECTOR_DESIRED_H
#define BRASS_DIRECTOR_DESIRED_H

#include "director/ipvs.h"
#include "director/model.h"

// Why a backend has the weight it has. The first that applies, from the top.
enum backend_status {
	STATUS_LOST,    // its agent is silent
	STATUS_SETUP,   // its agent is still setting the host up
	STATUS_DRAIN,   // it is on its way out, or its agent asked for no new connections
	STATUS_DOWN,    // its agent or its pulse says that it cannot serve
	STATUS_UNKNOWN, // its pulse has not said anything yet
	STATUS_UP,
};

extern const struct field_choice backend_status_choices[]; // "lost", "setup", ...

enum backend_status desired_status(const struct backend *backend);
// Why it is not up, "" when it is.
const char *desired_reason(const struct backend *backend);
// Its weight if it is up and nothing else were to be said: less while it comes back, or has a poor record.
uint32_t desired_own_weight(const struct backend *backend);
// What the kernel is to have.
uint32_t desired_weight(const struct backend *backend);

// Works out a service whose backends' weights depend on each other (backend->pool_weight, service->serving); to be
// called after anything about it changed. 0 or -ENOMEM. -- desired_pool.c
int desired_pool(struct service *service);
// The number of backends that its quorum needs now; 0: it has none.
uint32_t desired_quorum(const struct service *service);
// The versions that have a share and no backend that is up, "b, c", in the order of the split; nothing when there is
// none.
void desired_silent(const struct service *service, struct out *out);

void desired_service(const struct service *service, struct ipvs_service *ret);
void desired_dest(const struct backend *backend, struct ipvs_dest *ret);
// The service of a mark that leads checks along a path, and its one destination.
void desired_path(const struct probe_path *path, struct ipvs_service *ret, struct ipvs_dest *ret_dest);
// All destinations of a service, sorted by ipvs_dest_cmp, in a new array. 0 or -ENOMEM.
int desired_dests(const struct service *service, struct ipvs_dest **ret, size_t *ret_count);

#endif
