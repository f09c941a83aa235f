// SPDX-License-Identifier: Apache-2.0
// Everything that the doctor's checks look at, read once. Floor 5.
//
// Nothing is changed by reading: a kernel module that is not loaded is not asked for what it would have (nftables,
// fou), because asking loads it. What could not be read says why in a text of its own.
#ifndef BRASS_AGENT_DOCTOR_FACTS_H
#define BRASS_AGENT_DOCTOR_FACTS_H

#include "agent/ask.h"
#include "agent/config.h"
#include "agent/doctor_report.h"
#include "agent/doctor_segment.h"
#include "agent/filter.h"
#include "agent/observe.h"
#include "agent/resource_list.h"
#include "agent/services.h"
#include "shared/http_client.h"
#include "shared/neigh.h"

#include <uv.h>

// Counters of this host that only grow.
struct doctor_counters {
	uint64_t tcp_checksum, udp_checksum; // thrown away for a wrong checksum
};

struct doctor {
	const struct config *config;
	uv_loop_t loop;
	struct http_client *http;
	struct ask_answers answers;
	struct services services; // as they are wanted now
	struct netsock *sock;
	struct observed seen;
	struct neigh *neighs;
	size_t neigh_count;
	struct resource_list want;   // of all services
	struct inet_addr clients[2]; // where a client is thought to be: IPv4, IPv6
	bool client_given;           // by the person, not by us
	struct filter filter;
	char filter_unseen[512]; // which rules could not be read, and why; "": all were
	bool tracks;             // conntrack is there
	int tcp_loose, tcp_be_liberal;
	msec_t begin_wall_ms, begin_mono_ms;
	struct doctor_counters begin;      // at the start
	struct doctor_question *questions; // who answers for each VIP in the segment of the RIP
	size_t question_count;
	char segment_unseen[256]; // why nobody was asked; "": they were
	struct doctor_report report;
	bool loop_is_open;
};

// Everything that a check of one service is about.
struct doctor_case {
	const struct spec_service *service;
	const struct client *client;       // the director that knows it; NULL: it is static
	struct inet_addr director;         // where its tunnel packets come from; not set: not known
	const struct ask_backend *backend; // what it makes of this host; NULL: not asked
	const struct local_check *check;   // who says whether the program serves
	const struct iflink *underlay;     // the device that has the RIP; NULL: none has
	const char *device;                // the VIP's; "" for nat
	const struct iflink *link;         // of that name; NULL: there is none
	struct inet_addr client_at;        // of the VIP's family
	bool is_tunnel, has_vip;           // the VIP is on the device
};

#define DOCTOR_VIPS_MAX 256 // that are asked for at once: each is a broadcast or two

// service: whose VIPs are asked for in the segment; NULL: all. client: an address, NULL: any.
int doctor_read(
	const struct config *config, const char *service, const char *client, struct doctor *ret, struct err *err);
struct doctor_case doctor_case(const struct doctor *d, size_t i);
void doctor_clear(struct doctor *d);

// Small readers for the checks.
enum doctor_module { DOCTOR_MODULE_LOADED, DOCTOR_MODULE_THERE, DOCTOR_MODULE_MISSING, DOCTOR_MODULE_UNKNOWN };
enum doctor_module doctor_module(const char *name);
struct doctor_counters doctor_counters(void);
const struct iflink *doctor_link(const struct doctor *d, int ifindex);
// The device that has an address; NULL: none.
const struct iflink *doctor_device_of(const struct doctor *d, const struct inet_addr *addr);

#endif
