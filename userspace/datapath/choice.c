/* SPDX-License-Identifier: MIT */
#include "datapath/choice.h"

#include <stddef.h>
#include <string.h>

/*
 * Physical NICs whose driver runs XDP natively, also for frames redirected to it. Frames from these
 * have whole checksums; those of virtual devices have not, and XDP cannot see that
 * (CHECKSUM_PARTIAL).
 */
static const char *const native[] = {
	"ixgbe", "i40e", "ice", "igb",	  "igc",   "mlx4_en", "mlx5_core", "ena", "bnxt_en",
	"nfp",	 "qede", "sfc", "mvneta", "mvpp2", "stmmac",  "st_gmac",   "gve", "fsl_enetc",
};

static const struct {
	const char *driver, *why;
} known[] = {
	{"veth", "veth: its peer leaves checksums unfinished, which XDP cannot see"},
	{"virtio_net", "virtio_net: the host leaves checksums unfinished, which XDP cannot see"},
	{"bridge", "a bridge has no native XDP"},
	{"bonding", "a bond's ports may differ in what they can"},
	{"802.1Q VLAN Support", "a VLAN interface has no native XDP"},
	{"macvlan", "macvlan has no native XDP"},
	{"tun", "tun: frames of local programs come with unfinished checksums"},
};

const char *choice_against_xdp(const char *driver)
{
	for (size_t i = 0; i < sizeof(native) / sizeof(native[0]); i++)
		if (strcmp(driver, native[i]) == 0)
			return NULL;
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strcmp(driver, known[i].driver) == 0)
			return known[i].why;
	return "its driver is not known for native XDP";
}
