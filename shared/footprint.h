// SPDX-License-Identifier: Apache-2.0
// What a daemon at rest need not keep in memory. Floor 0.
//
// Starting touches most pages of some thirty libraries once: symbols are looked up and relocated. They stay mapped and
// are counted as resident, although the kernel could read each again from its file. Of a segment that is not writable
// nothing was ever changed, so its pages may go (madvise(2), MADV_DONTNEED); what is used again comes back from the
// page cache, page by page. The heap's unused ends go, too (malloc_trim(3)).
#ifndef BRASS_SHARED_FOOTPRINT_H
#define BRASS_SHARED_FOOTPRINT_H

// For when there will be little to do for a while. What is used right after comes back at the cost of minor faults.
void footprint_shrink(void);

#endif
