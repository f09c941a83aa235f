// SPDX-License-Identifier: Apache-2.0
// From what the host should be to the list of things that the kernel should hold. Pure. Floor 3.
#ifndef BRASS_AGENT_DESIRED_H
#define BRASS_AGENT_DESIRED_H

#include "agent/resource_list.h"
#include "agent/spec.h"
#include "shared/iflink.h"

// The resources of one service, or of all; links are needed to know which devices answer ARP.
int desired_of_service(const struct spec *spec, const struct spec_service *service, const struct iflink *links,
	size_t link_count, struct resource_list *list);
int desired(const struct spec *spec, const struct iflink *links, size_t link_count, struct resource_list *ret);

// The device that carries a service's VIP: "lo", a tunnel's name, "" for nat.
const char *desired_device(const struct spec *spec, const struct spec_service *service);

#endif
