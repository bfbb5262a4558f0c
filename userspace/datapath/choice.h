/* SPDX-License-Identifier: MIT */
/* Which hook an interface gets under "auto". Pure. */
#ifndef DATAPATH_CHOICE_H
#define DATAPATH_CHOICE_H

/* Why native XDP is not for this driver (name as ethtool says it); NULL: it is. */
const char *choice_against_xdp(const char *driver);

#endif
