// SPDX-License-Identifier: Apache-2.0
// The kernel settings that the director depends on and does not set, through /proc/sys. Floor 2.
#ifndef BRASS_DIRECTOR_SYSCTL_H
#define BRASS_DIRECTOR_SYSCTL_H

#include <stdbool.h>

// Does this host forward packets of the family? Without it the replies of nat backends end here.
bool sysctl_forwards(int family);

// Shall this host not balance while it runs a backup sync daemon?
bool sysctl_backup_only(void);

#endif
