// SPDX-License-Identifier: Apache-2.0
#include "director/sysctl.h"

#include "shared/util.h"

#include <fcntl.h>
#include <sys/socket.h>

static bool is_on(const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	char value = '0';

	return fd >= 0 && read(fd, &value, 1) == 1 && value != '0';
}

bool sysctl_forwards(int family)
{
	return is_on(family == AF_INET6 ? "/proc/sys/net/ipv6/conf/all/forwarding" : "/proc/sys/net/ipv4/ip_forward");
}

bool sysctl_backup_only(void)
{
	return is_on("/proc/sys/net/ipv4/vs/backup_only");
}
