// SPDX-License-Identifier: Apache-2.0
// What may be declared of the kernel's IPVS settings (settings.h): the table and its values. A row is a file under
// /proc with the same name; its value is one or two numbers, whatever the row makes of them. Pure. Floor 2.
#ifndef BRASS_DIRECTOR_SETTINGS_FIELDS_H
#define BRASS_DIRECTOR_SETTINGS_FIELDS_H

#include "director/ipvs_control.h"
#include "shared/clock.h"
#include "shared/field.h"

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

#define SETTINGS_FILES (29u) // rows of settings_fields that are files; the timeouts come behind them
#define SETTINGS_TEXT_MAX 64

// The declared value of a row; the second number is 0 when there is one only.
void settings_numbers(const struct settings_wanted *wanted, size_t row, int64_t ret[2]);
// As it is written into the file, and as JSON.
void settings_print_text(size_t row, const int64_t n[2], char ret[SETTINGS_TEXT_MAX]);
void settings_write_value(size_t row, const int64_t n[2], struct out *out);
// The file of a scheduler comes with its module, which the kernel loads when it is first used.
bool settings_comes_later(size_t row);
// In seconds, by the rows of settings_timeout_fields; 0: not declared.
void settings_wanted_timeouts(const struct settings_timeouts *timeouts, uint32_t ret_s[IPVS_TIMEOUTS]);

// The text of a file under /proc as numbers (two at most). Returns how many, or -EINVAL.
int settings_read_text(const char *text, int64_t ret[2]);
// Do two values of the file mean the same? The kernel itself goes to and fro between 1 and 2 in drop_entry,
// drop_packet and secure_tcp.
bool settings_same(const char *name, const int64_t a[2], const int64_t b[2]);

#endif
