// SPDX-License-Identifier: Apache-2.0
// The kernel's settings of IPVS in this network namespace: /proc/sys/net/ipv4/vs/* and the timeouts of connections.
// Declared ones and a few defaults of ours are set at the start and kept; all others are left as they are. Floor 2.
//
// Source: net/netfilter/ipvs/ip_vs_ctl.c, Documentation/networking/ipvs-sysctl.rst. debug_level is not here: it is one
// for all namespaces and can only be written in the first. The kernel takes any number for
// most of them and reads them as yes or no; here only those that mean something are allowed. A setting is written only
// when it differs, so that one that is right already may be read-only (in a container, say).
#ifndef BRASS_DIRECTOR_SETTINGS_H
#define BRASS_DIRECTOR_SETTINGS_H

#include "director/ipvs_control.h"
#include "shared/clock.h"
#include "shared/err.h"
#include "shared/field.h"
#include "shared/util.h"

#include <stdbool.h>
#include <stdint.h>

// What may be declared; the bits of `set` say what was. Members are called as the kernel's files are.
struct settings_wanted {
	uint64_t set;
	uint32_t am_droprate, amemthresh, backup_only, cache_bypass, conn_reuse_mode, conntrack;
	uint32_t drop_entry, drop_packet, expire_nodest_conn, expire_quiescent_template, ignore_tunneled;
	uint32_t nat_icmp_send, pmtu_disc, run_estimation, schedule_icmp, secure_tcp, sloppy_sctp, sloppy_tcp;
	uint32_t snat_reroute, sync_persist_mode, sync_ports, sync_qlen_max, sync_retries, sync_sock_size;
	uint32_t sync_version;
	msec_t lblc_expiration, lblcr_expiration; // files of schedulers, there when their module is
	msec_t sync_refresh_period;
	struct settings_threshold {
		uint32_t packets, period;
	} sync_threshold;
	struct settings_timeouts {
		uint64_t set;
		msec_t tcp, tcp_fin, udp;
	} timeouts;
};

extern const struct field_table settings_fields;
extern const struct field_table settings_timeout_fields;

struct settings;

// control must outlive it. Looks whether the kernel has every declared setting, and changes nothing:
// -EOPNOTSUPP when it lacks one (field and sentence).
int settings_new(
	const struct settings_wanted *declared, struct ipvs_control *control, struct settings **ret, struct err *err);
void settings_free(struct settings *settings);
DEFINE_CLEANUP(struct settings *, settings_free)

// Is there a sync daemon, so that its defaults count as well? Takes effect with the next call of settings_apply or
// settings_verify.
void settings_with_sync(struct settings *settings, bool sync);

// Sets what differs. -errno of a declared setting that cannot be set; one of our own defaults is only warned of.
int settings_apply(struct settings *settings, struct err *err);

// Puts back what somebody changed, a log line for each.
void settings_verify(struct settings *settings);

// "ipvs": version, size of the table of connections, settings that we keep and timeouts, as the kernel has them now. An
// object into out.
void settings_write(const struct settings *settings, struct out *out);

// --- pure parts, for the tests ---

// The text of a file under /proc as numbers (two at most). Returns how many, or -EINVAL.
int settings_read_text(const char *text, int64_t ret[2]);
// Do two values of the file mean the same? The kernel itself goes to and fro between 1 and 2 in drop_entry,
// drop_packet and secure_tcp.
bool settings_same(const char *name, const int64_t a[2], const int64_t b[2]);

#endif
