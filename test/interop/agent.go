package main

import (
	"crypto/tls"
	"time"

	"github.com/hashicorp/consul/api"
)

// agentAPI asks an agent, or a server that answers an agent's routes, for roots and leaves, as Consul's clients do.
// Without a token it must be refused if there is one.
func agentAPI(address, token string) {
	c := client(address, token)
	name := must[string]("node name")(c.Agent().NodeName())
	hold("the agent has a name", name != "", name)
	self := must[map[string]map[string]interface{}]("self")(c.Agent().Self())
	hold("self has the datacenter", self["Config"]["Datacenter"] == "dc1", self)

	roots, meta, err := c.Agent().ConnectCARoots(nil)
	if err != nil {
		fail("roots of the agent", err)
	}
	hold("roots of the agent", len(roots.Roots) == 1 && meta.LastIndex > 0, roots)
	_, meta, err = c.Agent().ConnectCARoots(nil)
	hold("roots are a hit of the cache", err == nil && meta.CacheHit && meta.CacheAge == 0, meta)

	leaf, meta, err := c.Agent().ConnectCALeaf("web", nil)
	if err != nil {
		fail("leaf of the agent", err)
	}
	hold("leaf has the index of the response", leaf.ModifyIndex == meta.LastIndex && leaf.Service == "web", leaf)
	if _, err = tls.X509KeyPair([]byte(leaf.CertPEM), []byte(leaf.PrivateKeyPEM)); err != nil {
		fail("leaf and key fit", err)
	}
	began := time.Now()
	again, later, err := c.Agent().ConnectCALeaf("web", &api.QueryOptions{WaitIndex: meta.LastIndex, WaitTime: time.Second})
	hold("a blocking read waits", err == nil && time.Since(began) > 900*time.Millisecond && later.LastIndex == meta.LastIndex, later)
	hold("and answers the same leaf", again.SerialNumber == leaf.SerialNumber, again)

	allowed, err := c.Agent().ConnectAuthorize(&api.AgentAuthorizeParams{Target: "web", ClientCertURI: leaf.ServiceURI})
	hold("authorize answers by the default", err == nil && allowed.Authorized == (token == ""), allowed)
	other, err := c.Agent().ConnectAuthorize(&api.AgentAuthorizeParams{
		Target: "web", ClientCertURI: "spiffe://other.consul/ns/default/dc/dc1/svc/web"})
	hold("authorize refuses another trust domain", err == nil && !other.Authorized, other)

	_, _, err = c.Agent().ConnectCALeaf("a b", nil)
	refused("an odd name", err, "Invalid service")
	if token == "" {
		return
	}
	_, _, err = client(address, "").Agent().ConnectCALeaf("web", nil)
	refused("a cached leaf without a token", err, "anonymous token lacks permission 'service:write' on \"web\"")
	_, _, err = client(address, "22222222-2222-2222-2222-222222222222").Agent().ConnectCALeaf("web", nil)
	refused("a cached leaf with an unknown token", err, "ACL not found")
}
