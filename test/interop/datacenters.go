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
