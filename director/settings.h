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
#include "director/settings_fields.h"
#include "shared/err.h"
#include "shared/out.h"
#include "shared/util.h"

#include <stdbool.h>
#include <stdint.h>

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

#endif
