// SPDX-License-Identifier: Apache-2.0
// What IPVS has besides services: version, timeouts, sync daemons; over generic netlink. No policy. Floor 2.
//
// Source: linux/ip_vs.h and net/netfilter/ipvs/ip_vs_ctl.c (IPVS_CMD_GET_INFO, _GET_CONFIG, _SET_CONFIG, _NEW_DAEMON,
// _DEL_DAEMON, _GET_DAEMON). Every command needs CAP_NET_ADMIN. It has a socket of its own: nothing here is part of a
// batch.
#ifndef BRASS_DIRECTOR_IPVS_CONTROL_H
#define BRASS_DIRECTOR_IPVS_CONTROL_H

#include "shared/err.h"
#include "shared/inet.h"
#include "shared/util.h"

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ipvs_control;

int ipvs_control_open(struct ipvs_control **ret, struct err *err);
void ipvs_control_free(struct ipvs_control *control);
DEFINE_CLEANUP(struct ipvs_control *, ipvs_control_free)

struct ipvs_info {
	uint32_t version;    // 0x010201 is 1.2.1
	uint32_t table_size; // of the table of connections, in entries
};
int ipvs_control_info(struct ipvs_control *control, struct ipvs_info *ret, struct err *err);

enum ipvs_timeout { IPVS_TIMEOUT_TCP, IPVS_TIMEOUT_TCP_FIN, IPVS_TIMEOUT_UDP, IPVS_TIMEOUTS };
// Seconds, by enum ipvs_timeout. Setting: 0 leaves that one alone.
int ipvs_control_timeouts(struct ipvs_control *control, uint32_t ret_s[IPVS_TIMEOUTS], struct err *err);
int ipvs_control_set_timeouts(struct ipvs_control *control, const uint32_t s[IPVS_TIMEOUTS], struct err *err);

enum ipvs_role { IPVS_MASTER, IPVS_BACKUP, IPVS_ROLES };

// A sync daemon, as it runs or shall run.
struct ipvs_daemon {
	char interface[IFNAMSIZ];
	uint32_t id;
	struct inet_addr group;
	uint16_t port; // of UDP
	uint8_t ttl;
	uint16_t max_length; // bytes of a datagram's payload
};

struct ipvs_daemons {
	bool running[IPVS_ROLES];
	struct ipvs_daemon daemons[IPVS_ROLES];
};
// Those that run in this network namespace.
int ipvs_control_daemons(struct ipvs_control *control, struct ipvs_daemons *ret, struct err *err);
// -EEXIST: one of this role runs; -ENODEV: no such interface; -EINVAL: there are backends of another address family
// than their service's. Other errors are those of the daemon's socket.
int ipvs_control_start(
	struct ipvs_control *control, enum ipvs_role role, const struct ipvs_daemon *daemon, struct err *err);
// -ESRCH: none runs. One that has only just been started may be stopped before its thread ran at all.
int ipvs_control_stop(struct ipvs_control *control, enum ipvs_role role, struct err *err);

#endif
