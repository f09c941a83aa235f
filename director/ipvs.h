// SPDX-License-Identifier: Apache-2.0
// The kernel's IPVS table over generic netlink: dump, add, change, delete. No policy. Floor 2.
//
// Source: linux/ip_vs.h and net/netfilter/ipvs/ip_vs_ctl.c. Every command needs CAP_NET_ADMIN. Changes are gathered in
// a batch (netsock.h) and carried out by ipvs_flush; each refusal is given to the callback with the cookie of its
// change.
#ifndef BRASS_DIRECTOR_IPVS_H
#define BRASS_DIRECTOR_IPVS_H

#include "director/ipvs_key.h"
#include "shared/err.h"
#include "shared/inet.h"
#include "shared/util.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ipvs;

struct ipvs_stats {
	uint64_t connections, in_packets, out_packets, in_bytes, out_bytes;
	// rates: the kernel's own estimate over some seconds; bytes and packets a second
	uint64_t connections_rate, in_packets_rate, out_packets_rate, in_bytes_rate, out_bytes_rate;
};

struct ipvs_service {
	struct ipvs_key key;
	char scheduler[16];
	char engine[16];    // persistence engine, "": none
	uint32_t flags;     // IP_VS_SVC_F_* without those that the kernel owns (IP_VS_SVC_F_HASHED)
	uint32_t timeout_s; // persistence
	uint32_t netmask;   // as the kernel wants it: network-order mask for IPv4, prefix length for IPv6
};

// What we set of a destination.
struct ipvs_dest {
	struct inet_endpoint to;
	uint16_t forward;      // IP_VS_CONN_F_DROUTE, _TUNNEL, _MASQ
	uint16_t tunnel_port;  // host order
	uint16_t tunnel_flags; // IP_VS_TUNNEL_ENCAP_FLAG_*
	uint8_t tunnel_type;   // IP_VS_CONN_F_TUNNEL_TYPE_*
	uint32_t weight;
	uint32_t upper, lower; // connection thresholds, 0: none
};

// What the kernel counts for it.
struct ipvs_counted {
	struct ipvs_dest dest;
	uint32_t active, inactive, persistent; // connections
	struct ipvs_stats stats;
};

// Opens the socket and finds the family (loading ip_vs on the way where modprobe can). -ENOENT: no IPVS in this kernel;
// -EPERM: not allowed.
int ipvs_open(struct ipvs **ret, struct err *err);
void ipvs_free(struct ipvs *ipvs);
DEFINE_CLEANUP(struct ipvs *, ipvs_free)

// Dumps into new arrays, which the caller frees. Destinations are sorted by ipvs_dest_cmp.
int ipvs_dump_services(struct ipvs *ipvs, struct ipvs_service **ret, size_t *ret_count, struct err *err);
int ipvs_dump_dests(
	struct ipvs *ipvs, const struct ipvs_key *key, struct ipvs_counted **ret, size_t *ret_count, struct err *err);

// The destinations of a service piece by piece, in the kernel's order, on a handle that does nothing else meanwhile.
// next returns 1, 0 when that was all, or -errno (-EAGAIN: the table has changed meanwhile; -ESRCH: no such service),
// and then it is over.
int ipvs_walk_start(struct ipvs *ipvs, const struct ipvs_key *key, struct err *err);
int ipvs_walk_next(
	struct ipvs *ipvs, void (*each)(void *ctx, const struct ipvs_counted *counted), void *ctx, struct err *err);

// One service, and its counters (which may be NULL). -ESRCH when the kernel does not have it.
int ipvs_get_service(struct ipvs *ipvs, const struct ipvs_key *key, struct ipvs_service *ret, struct ipvs_stats *stats,
	struct err *err);

enum ipvs_verb { IPVS_ADD, IPVS_SET, IPVS_DEL };

// Queue one change. cookie comes back with a refusal. 0 or -errno of the socket.
int ipvs_service_change(struct ipvs *ipvs, enum ipvs_verb verb, const struct ipvs_service *service, void *cookie);
int ipvs_dest_change(
	struct ipvs *ipvs, enum ipvs_verb verb, const struct ipvs_key *key, const struct ipvs_dest *dest, void *cookie);

typedef void (*ipvs_refused_fn)(void *ctx, void *cookie, int error, const struct err *why);
// Who hears of refusals from now on; they may already arrive while changes are queued.
void ipvs_on_refused(struct ipvs *ipvs, ipvs_refused_fn refused, void *ctx);
int ipvs_flush(struct ipvs *ipvs);

// Messages sent and system calls made for changes, since the start.
size_t ipvs_messages(const struct ipvs *ipvs);

int ipvs_dest_cmp(const struct ipvs_dest *a, const struct ipvs_dest *b); // by endpoint
// Do the fields that we set agree?
bool ipvs_service_same(const struct ipvs_service *a, const struct ipvs_service *b);
bool ipvs_dest_same(const struct ipvs_dest *a, const struct ipvs_dest *b);

#endif
