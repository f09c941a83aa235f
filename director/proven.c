// SPDX-License-Identifier: Apache-2.0
#include "director/proven.h"

#include <errno.h>
#include <linux/ip_vs.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define MARKS 4 // tried in vain: then somebody has a use for them that we do not understand

// Refusals of the two messages.
struct refusals {
	int add, del;
};

static void on_refused(void *ctx, void *cookie, int error, const struct err *why)
{
	(void)why;
	*(cookie ? &((struct refusals *)ctx)->del : &((struct refusals *)ctx)->add) = error;
}

bool proven_has(const struct proven *proven, const char *scheduler, const char *engine)
{
	for (size_t i = 0; i < proven->count; i++)
		if (strcmp(proven->pairs[i].scheduler, scheduler) == 0 && strcmp(proven->pairs[i].engine, engine) == 0)
			return true;
	return false;
}

void proven_add(struct proven *proven, const struct ipvs_service *service)
{
	memcpy(proven->pairs[proven->next].scheduler, service->scheduler, sizeof(service->scheduler));
	memcpy(proven->pairs[proven->next].engine, service->engine, sizeof(service->engine));
	proven->next = (proven->next + 1) % PROVEN_MAX;
	proven->count += proven->count < PROVEN_MAX;
}

// The highest mark without a service.
static bool find_free(struct ipvs *ipvs, struct ipvs_key *key)
{
	struct ipvs_service found;

	for (uint32_t i = 0; i < MARKS; i++) {
		*key = (struct ipvs_key) { .vip.addr.family = AF_INET, .fwmark = UINT32_MAX - i };
		int rc = ipvs_get_service(ipvs, key, &found, NULL, NULL);

		if (rc)
			return rc == -ESRCH;
	}
	return false;
}

int proven_check(struct proven *proven, struct ipvs *ipvs, const char *scheduler, const char *engine, bool *ret_left,
	struct ipvs_key *ret_key)
{
	struct refusals refusals = { 0 };
	struct ipvs_service service = { .netmask = ~0u };

	*ret_left = false;
	if (!find_free(ipvs, &service.key))
		return 0;
	snprintf(service.scheduler, sizeof(service.scheduler), "%s", scheduler);
	snprintf(service.engine, sizeof(service.engine), "%s", engine);
	if (*engine) {
		service.flags = IP_VS_SVC_F_PERSISTENT;
		service.timeout_s = 1;
	}
	*ret_key = service.key;
	ipvs_on_refused(ipvs, on_refused, &refusals);
	int rc = ipvs_service_change(ipvs, IPVS_ADD, &service, NULL);
	if (!rc)
		rc = ipvs_service_change(ipvs, IPVS_DEL, &service, &refusals);
	int sent = ipvs_flush(ipvs);

	*ret_left = rc || sent || (!refusals.add && refusals.del);
	if (*ret_left || (refusals.add && refusals.add != -ENOENT))
		return 0;
	if (!refusals.add)
		proven_add(proven, &service);
	return refusals.add;
}
