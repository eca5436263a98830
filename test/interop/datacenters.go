// Consul's API client at a server of one datacenter, with requests for another one.
package main

import (
	"time"

	"github.com/hashicorp/consul/api"
)

// datacenters checks what a server of dc1 without access control answers for dc2, which has it. Token is one of dc2.
func datacenters(address, token string) {
	nobody, operator := client(address, ""), client(address, token)
	there := &api.QueryOptions{Datacenter: "dc2"}

	names := must[[]string]("datacenters")(nobody.Catalog().Datacenters())
	hold("this datacenter comes first", len(names) == 2 && names[0] == "dc1" && names[1] == "dc2", names)

	own := must[*api.CARootList]("roots of dc1")(first2(nobody.Connect().CARoots(nil)))
	roots, meta, err := nobody.Connect().CARoots(there)
	if err != nil {
		fail("roots of dc2", err)
	}
	hold("roots of another CA", roots.TrustDomain != own.TrustDomain && len(roots.Roots) == 1, roots)
	hold("metadata of dc2", meta.LastIndex > 0 && meta.KnownLeader, meta)

	_, _, err = nobody.Connect().CAGetConfig(there)
	refused("configuration of dc2 without its token", err, "403 (Permission denied: anonymous token lacks permission 'operator:read'")
	config := must[*api.CAConfig]("configuration of dc2")(first2(operator.Connect().CAGetConfig(there)))
	config.Config["LeafCertTTL"] = "7h"
	_, err = nobody.Connect().CASetConfig(config, &api.WriteOptions{Datacenter: "dc2"})
	refused("a change of dc2 without its token", err, "403 (Permission denied")

	woken := make(chan uint64, 1)
	go func() {
		_, changed, err := nobody.Connect().CARoots(&api.QueryOptions{Datacenter: "dc2", WaitIndex: meta.LastIndex, WaitTime: 10 * time.Minute})
		if err != nil {
			fail("a blocking query for dc2", err)
		}
		woken <- changed.LastIndex
	}()
	_, err = operator.Connect().CASetConfig(config, &api.WriteOptions{Datacenter: "dc2"})
	hold("a change of dc2", err == nil, err)
	index := <-woken
	hold("a blocking query for dc2 ends with its change", index > meta.LastIndex, index)
	config = must[*api.CAConfig]("changed configuration of dc2")(first2(operator.Connect().CAGetConfig(there)))
	hold("the change is in dc2", config.Config["LeafCertTTL"] == "7h", config)
	config = must[*api.CAConfig]("configuration of dc1")(first2(nobody.Connect().CAGetConfig(nil)))
	hold("and not in dc1", config.Config["LeafCertTTL"] == "72h", config)

	_, _, err = nobody.Connect().CARoots(&api.QueryOptions{Datacenter: "dc3"})
	refused("an unknown datacenter", err, "No path to datacenter")
}

// threeDatacenters checks that a server of each of dc1 (the primary), dc2 and dc3 answers for all of them, and that a
// rotation in the primary reaches a blocking query for another datacenter. Token is one of all three.
func threeDatacenters(token string, addresses []string) {
	names := []string{"dc1", "dc2", "dc3"}
	var active *api.CARoot
	for i, address := range addresses {
		c := client(address, token)
		listed := must[[]string]("datacenters of " + names[i])(c.Catalog().Datacenters())
		hold("all three, its own first", len(listed) == 3 && listed[0] == names[i], listed)
		for _, name := range names {
			query := &api.QueryOptions{Datacenter: name}
			roots := must[*api.CARootList]("roots of " + name + " by " + names[i])(first2(c.Connect().CARoots(query)))
			hold("one root, the active one", len(roots.Roots) == 1 && roots.Roots[0].ID == roots.ActiveRootID, roots)
			if active == nil {
				active = roots.Roots[0]
			}
			hold("the primary's root", roots.Roots[0].ID == active.ID && roots.Roots[0].RootCertPEM == active.RootCertPEM, roots)
			must[*api.CAConfig]("configuration of " + name)(first2(c.Connect().CAGetConfig(query)))
		}
	}

	// Asks in dc2 for dc3, which follows what is changed through dc3 in dc1.
	second, third := client(addresses[1], token), client(addresses[2], token)
	_, meta, err := second.Connect().CARoots(&api.QueryOptions{Datacenter: "dc3"})
	if err != nil {
		fail("roots of dc3", err)
	}
	config := must[*api.CAConfig]("configuration of dc1")(first2(third.Connect().CAGetConfig(&api.QueryOptions{Datacenter: "dc1"})))
	config.Config["PrivateKeyBits"] = 384
	_, err = third.Connect().CASetConfig(config, &api.WriteOptions{Datacenter: "dc1"})
	hold("a rotation of dc1 through dc3", err == nil, err)
	roots, _, err := second.Connect().CARoots(&api.QueryOptions{Datacenter: "dc3", WaitIndex: meta.LastIndex, WaitTime: 5 * time.Minute})
	hold("a blocking query for dc3 ends with it", err == nil && len(roots.Roots) == 2 && roots.ActiveRootID != active.ID, roots)
	own := must[*api.CARootList]("roots of dc1 by dc2")(first2(second.Connect().CARoots(&api.QueryOptions{Datacenter: "dc1"})))
	hold("the root of dc1", roots.ActiveRootID == own.ActiveRootID, own)
}
