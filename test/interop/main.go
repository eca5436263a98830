// Consul's own API client against a meshca that has access control on: it makes the first token, policies, tokens and
// logins, and checks refusals. Prints a line for each check that holds, and exits with 1 at the first that does not.
package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
)

func fail(what string, detail any) {
	fmt.Printf("FAILED %s: %v\n", what, detail)
	os.Exit(1)
}

func must[T any](what string) func(T, error) T {
	return func(value T, err error) T {
		if err != nil {
			fail(what, err)
		}
		fmt.Println("ok", what)
		return value
	}
}

func refused(what string, err error, part string) {
	if err == nil || !strings.Contains(err.Error(), part) {
		fail(what, fmt.Sprintf("expected a refusal with %q, got %v", part, err))
	}
	fmt.Println("ok", what)
}

func hold(what string, holds bool, detail any) {
	if !holds {
		fail(what, detail)
	}
	fmt.Println("ok", what)
}

func client(address, token string) *api.Client {
	made, err := api.NewClient(&api.Config{Address: address, Token: token})
	if err != nil {
		fail("client", err)
	}
	return made
}

// csr makes a request for a SPIFFE ID.
func csr(id string) string {
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	uri, _ := url.Parse(id)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{uri}}, key)
	if err != nil {
		fail("csr", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

func sign(c *api.Client, id string) (map[string]any, error) {
	var leaf map[string]any
	_, err := c.Raw().Write("/v1/connect/ca/sign", map[string]string{"CSR": csr(id)}, &leaf, nil)
	return leaf, err
}

// jwt signs claims with ES256.
func jwt(key *ecdsa.PrivateKey, claims map[string]any) string {
	body, _ := json.Marshal(claims)
	signed := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"ES256"}`)) + "." + base64.RawURLEncoding.EncodeToString(body)
	digest := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		fail("jwt", err)
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func main() {
	if os.Args[1] == "agent" {
		agentAPI(os.Args[2], os.Args[3])
		fmt.Println("done")
		return
	}
	if os.Args[1] == "datacenters" {
		datacenters(os.Args[2], os.Args[3])
		fmt.Println("done")
		return
	}
	if os.Args[1] == "three-datacenters" {
		threeDatacenters(os.Args[2], os.Args[3:])
		fmt.Println("done")
		return
	}
	address := os.Args[1]
	nobody := client(address, "")

	_, _, err := nobody.ACL().Bootstrap()
	refused("a bootstrap without the secret of the data folder", err, "CONSUL_HTTP_TOKEN=$(cat ")
	// os.Args[2] is what an operator finds in the data folder, and the client sends it as `consul acl bootstrap` does.
	first := must[*api.ACLToken]("bootstrap")(first2(client(address, os.Args[2]).ACL().Bootstrap()))
	hold("the first token manages everything", len(first.Policies) == 1 && first.Policies[0].Name == "global-management", first.Policies)
	_, _, err = nobody.ACL().Bootstrap()
	refused("a second bootstrap", err, "ACL bootstrap no longer allowed")
	manager := client(address, first.SecretID)

	roots, meta, err := nobody.Connect().CARoots(nil)
	if err != nil {
		fail("roots without a token", err)
	}
	hold("roots without a token", len(roots.Roots) == 1 && meta.LastIndex > 0, roots)
	id := func(path string) string { return "spiffe://" + roots.TrustDomain + path }

	policy := must[*api.ACLPolicy]("policy create")(first2(manager.ACL().PolicyCreate(&api.ACLPolicy{
		Name: "web", Rules: `service "web" { policy = "write" } operator = "read"`}, nil)))
	read := must[*api.ACLPolicy]("policy read")(first2(manager.ACL().PolicyRead(policy.ID, nil)))
	hold("policy reads as written", read.Rules == policy.Rules && read.Name == "web" && len(read.Hash) > 0, read)
	named := must[*api.ACLPolicy]("policy read by name")(first2(manager.ACL().PolicyReadByName("web", nil)))
	hold("policy by name", named.ID == policy.ID, named)
	list := must[[]*api.ACLPolicyListEntry]("policy list")(first2(manager.ACL().PolicyList(nil)))
	hold("two policies", len(list) == 2, list)
	_, _, err = nobody.ACL().PolicyList(nil)
	refused("policies without a token", err, "lacks permission 'acl:read'")
	_, _, err = manager.ACL().PolicyCreate(&api.ACLPolicy{Name: "bad", Rules: `service "web" { policy = "all" }`}, nil)
	refused("a policy with a bad rule", err, "Failed to parse ACL rules")

	token := must[*api.ACLToken]("token create")(first2(manager.ACL().TokenCreate(&api.ACLToken{
		Description: "for web", Policies: []*api.ACLTokenPolicyLink{{Name: "web"}}, ExpirationTTL: time.Hour}, nil)))
	hold("token has its policy and ends", token.Policies[0].ID == policy.ID && token.ExpirationTime != nil, token)
	shown := must[*api.ACLToken]("token read")(first2(manager.ACL().TokenRead(token.AccessorID, nil)))
	hold("a secret is shown once", shown.SecretID != token.SecretID, "the secret was shown again")
	web := client(address, token.SecretID)
	self := must[*api.ACLToken]("token read self")(first2(web.ACL().TokenReadSelf(nil)))
	hold("self is the token", self.AccessorID == token.AccessorID, self)
	tokens := must[[]*api.ACLTokenListEntry]("token list")(first2(manager.ACL().TokenList(nil)))
	hold("tokens are listed", len(tokens) >= 2, tokens)

	leaf := must[map[string]any]("sign")(sign(web, id("/ns/default/dc/dc1/svc/web")))
	hold("leaf has a certificate", strings.HasPrefix(leaf["CertPEM"].(string), "-----BEGIN CERTIFICATE-----"), leaf)
	_, err = sign(web, id("/ns/default/dc/dc1/svc/api"))
	refused("a token of web asking for api", err, `lacks permission 'service:write' on "api"`)
	_, err = sign(nobody, id("/ns/default/dc/dc1/svc/web"))
	refused("nobody asking for web", err, "anonymous token lacks permission")

	config, _, err := web.Connect().CAGetConfig(nil)
	if err != nil {
		fail("configuration with operator:read", err)
	}
	config.Config["LeafCertTTL"] = "48h"
	_, err = web.Connect().CASetConfig(config, nil)
	refused("changing the configuration with operator:read", err, "lacks permission 'operator:write'")
	if _, err = manager.Connect().CASetConfig(config, nil); err != nil {
		fail("changing the configuration", err)
	}
	changed, _, err := manager.Connect().CAGetConfig(nil)
	hold("the configuration changed", err == nil && changed.Config["LeafCertTTL"] == "48h", changed)
	_, _, err = nobody.Connect().CAGetConfig(nil)
	refused("configuration without a token", err, "lacks permission 'operator:read'")

	waited := make(chan uint64)
	now, meta, _ := nobody.Connect().CARoots(nil)
	go func() {
		_, later, err := nobody.Connect().CARoots(&api.QueryOptions{WaitIndex: meta.LastIndex, WaitTime: 30 * time.Second})
		if err != nil {
			fail("blocking query", err)
		}
		waited <- later.LastIndex
	}()
	time.Sleep(100 * time.Millisecond)
	changed.Config["PrivateKeyBits"] = 384
	changed.Config["PrivateKeyType"] = "ec"
	if _, err = manager.Connect().CASetConfig(changed, nil); err != nil {
		fail("rotation", err)
	}
	hold("a blocking query is answered by a rotation", <-waited > meta.LastIndex, now.ActiveRootID)

	policy.Rules = `service "web" { policy = "write" }`
	must[*api.ACLPolicy]("policy update")(first2(manager.ACL().PolicyUpdate(policy, nil)))
	_, _, err = web.Connect().CAGetConfig(nil)
	refused("configuration after the policy lost it", err, "lacks permission 'operator:read'")
	clone := must[*api.ACLToken]("token clone")(first2(manager.ACL().TokenClone(token.AccessorID, "again", nil)))
	token.Description, token.Policies = "nothing", nil
	must[*api.ACLToken]("token update")(first2(manager.ACL().TokenUpdate(token, nil)))
	_, err = sign(web, id("/ns/default/dc/dc1/svc/web"))
	refused("a token whose policies were taken away", err, "lacks permission")
	must[map[string]any]("sign with the clone")(sign(client(address, clone.SecretID), id("/ns/default/dc/dc1/svc/web")))
	if _, err = manager.ACL().TokenDelete(clone.AccessorID, nil); err != nil {
		fail("token delete", err)
	}
	_, err = sign(client(address, clone.SecretID), id("/ns/default/dc/dc1/svc/web"))
	refused("a deleted token", err, "ACL not found")

	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	der, _ := x509.MarshalPKIXPublicKey(key.Public().(crypto.PublicKey))
	public := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	must[*api.ACLAuthMethod]("auth method create")(first2(manager.ACL().AuthMethodCreate(&api.ACLAuthMethod{
		Name: "ci", Type: "jwt", MaxTokenTTL: 5 * time.Minute,
		Config: map[string]interface{}{"JWTValidationPubKeys": []string{public}, "JWTSupportedAlgs": []string{"ES256"},
			"BoundAudiences": []string{"meshca"}, "ClaimMappings": map[string]string{"service": "service"}}}, nil)))
	must[*api.ACLBindingRule]("binding rule create")(first2(manager.ACL().BindingRuleCreate(&api.ACLBindingRule{
		AuthMethod: "ci", BindType: api.BindingRuleBindTypeService, BindName: "${value.service}"}, nil)))
	claims := map[string]any{"aud": "meshca", "service": "web", "exp": time.Now().Add(time.Minute).Unix(), "iat": time.Now().Unix(), "jti": "one"}
	bearer := jwt(key, claims)
	login := must[*api.ACLToken]("login")(first2(nobody.ACL().Login(&api.ACLLoginParams{AuthMethod: "ci", BearerToken: bearer}, nil)))
	worker := client(address, login.SecretID)
	must[map[string]any]("sign after a login")(sign(worker, id("/ns/default/dc/dc1/svc/web")))
	_, err = sign(worker, id("/ns/default/dc/dc1/svc/api"))
	refused("a login of web asking for api", err, `lacks permission 'service:write' on "api"`)
	_, _, err = nobody.ACL().Login(&api.ACLLoginParams{AuthMethod: "ci", BearerToken: bearer}, nil)
	refused("a login token used twice", err, "Permission denied")
	if _, err = worker.ACL().Logout(nil); err != nil {
		fail("logout", err)
	}
	_, err = sign(worker, id("/ns/default/dc/dc1/svc/web"))
	refused("a token after its logout", err, "ACL not found")

	roles(manager, address, bearerOf(key), id)

	leader := must[string]("leader")(nobody.Status().Leader())
	peers := must[[]string]("peers")(nobody.Status().Peers())
	hold("the leader is a peer", len(peers) == 1 && peers[0] == leader, peers)
	fmt.Println("done")
}

// bearerOf makes login tokens of the auth method "ci".
func bearerOf(key *ecdsa.PrivateKey) func(id string, more map[string]any) string {
	return func(id string, more map[string]any) string {
		claims := map[string]any{"aud": "meshca", "exp": time.Now().Add(time.Minute).Unix(), "iat": time.Now().Unix(), "jti": id}
		for name, value := range more {
			claims[name] = value
		}
		return jwt(key, claims)
	}
}

// roles does what `nomad setup consul` and Terraform's consul_acl_role do, and what then follows for a leaf.
func roles(manager *api.Client, address string, bearer func(string, map[string]any) string, id func(string) string) {
	acl := manager.ACL()
	policy := must[*api.ACLPolicy]("policy of a role")(first2(acl.PolicyCreate(&api.ACLPolicy{
		Name: "nomad-tasks", Description: "ACL policy used by Nomad tasks",
		Rules: `key_prefix "" { policy = "read" }` + "\n" + `service_prefix "nomad-" { policy = "write" }`}, nil)))
	_, _, err := acl.RoleCreate(&api.ACLRole{Name: "no such policy", Policies: []*api.ACLLink{{Name: "nowhere"}}}, nil)
	refused("a role with a space in its name", err, "Invalid Role: invalid Name")
	role := must[*api.ACLRole]("role create")(first2(acl.RoleCreate(&api.ACLRole{
		Name: "nomad-tasks", Description: "ACL role for Nomad tasks", Policies: []*api.ACLLink{{ID: policy.ID}},
		ServiceIdentities: []*api.ACLServiceIdentity{{ServiceName: "batch"}},
		TemplatedPolicies: []*api.ACLTemplatedPolicy{{TemplateName: api.ACLTemplatedPolicyServiceName,
			TemplateVariables: &api.ACLTemplatedPolicyVariables{Name: "cron"}}}}, nil)))
	_, _, err = acl.RoleCreate(&api.ACLRole{Name: "nomad-tasks"}, nil)
	refused("a second role of that name", err, "already exists")
	read := must[*api.ACLRole]("role by name")(first2(acl.RoleReadByName("nomad-tasks", nil)))
	hold("a role has its policy by name", read.ID == role.ID && read.Policies[0].Name == "nomad-tasks" && len(read.Hash) > 0, read)
	hold("a role has its templated policy", read.TemplatedPolicies[0].TemplateVariables.Name == "cron", read)
	all := must[[]*api.ACLRole]("role list")(first2(acl.RoleList(nil)))
	hold("the list has the role", len(all) == 1 && all[0].ID == role.ID, all)
	missing, _, err := acl.RoleRead("00000000-1111-4222-8333-444444444444", nil)
	hold("a role that does not exist reads nil", missing == nil && err == nil, err)

	token := must[*api.ACLToken]("token with a role")(first2(acl.TokenCreate(&api.ACLToken{Roles: []*api.ACLLink{{Name: "nomad-tasks"}}}, nil)))
	hold("a token links its role", token.Roles[0].ID == role.ID, token)
	worker := client(address, token.SecretID)
	for _, name := range []string{"nomad-web", "batch", "cron"} {
		must[map[string]any]("sign by a role: " + name)(sign(worker, id("/ns/default/dc/dc1/svc/"+name)))
	}
	_, err = sign(worker, id("/ns/default/dc/dc1/svc/web"))
	refused("a service that no role grants", err, "lacks permission")

	for _, rule := range []*api.ACLBindingRule{
		{AuthMethod: "ci", BindType: api.BindingRuleBindTypeRole, BindName: "nomad-${value.service}", Selector: `value.service == "tasks"`},
		{AuthMethod: "ci", BindType: api.BindingRuleBindTypeTemplatedPolicy, BindName: api.ACLTemplatedPolicyServiceName,
			BindVars: &api.ACLTemplatedPolicyVariables{Name: "${value.service}-x"}, Selector: `value.service == "tasks"`},
	} {
		made := must[*api.ACLBindingRule]("binding rule create")(first2(acl.BindingRuleCreate(rule, nil)))
		hold("a binding rule keeps its type", made.BindType == rule.BindType, made)
	}
	login := must[*api.ACLToken]("login with a role")(first2(acl.Login(&api.ACLLoginParams{AuthMethod: "ci",
		BearerToken: bearer("two", map[string]any{"service": "tasks"})}, nil)))
	hold("a login gets its role", login.Roles[0].ID == role.ID && login.TemplatedPolicies[0].TemplateVariables.Name == "tasks-x", login)
	task := client(address, login.SecretID)
	for _, name := range []string{"nomad-web", "tasks-x"} {
		must[map[string]any]("sign after a login with a role: " + name)(sign(task, id("/ns/default/dc/dc1/svc/"+name)))
	}

	role.ServiceIdentities, role.TemplatedPolicies = nil, nil
	must[*api.ACLRole]("role update")(first2(acl.RoleUpdate(role, nil)))
	_, err = sign(worker, id("/ns/default/dc/dc1/svc/batch"))
	refused("an identity that the role lost", err, "lacks permission")
	if _, err = acl.RoleDelete(role.ID, nil); err != nil {
		fail("role delete", err)
	}
	_, err = sign(worker, id("/ns/default/dc/dc1/svc/nomad-web"))
	refused("a token whose role was deleted", err, "lacks permission")
	after := must[*api.ACLToken]("token read")(first2(acl.TokenRead(token.AccessorID, nil)))
	hold("the link is gone with its role", len(after.Roles) == 0, after)

	templates := must[map[string]api.ACLTemplatedPolicyResponse]("templated policies")(first2(acl.TemplatedPolicyList(nil)))
	hold("six templated policies", len(templates) == 6, templates)
	dns := must[*api.ACLTemplatedPolicyResponse]("templated policy by name")(first2(acl.TemplatedPolicyReadByName(api.ACLTemplatedPolicyDNSName, nil)))
	hold("DNS has no variables", dns.Schema == "", dns)
	preview := must[*api.ACLPolicy]("preview")(first2(acl.TemplatedPolicyPreview(&api.ACLTemplatedPolicy{
		TemplateName: api.ACLTemplatedPolicyNodeName, TemplateVariables: &api.ACLTemplatedPolicyVariables{Name: "n1"}}, nil)))
	hold("a preview has the rules", strings.Contains(preview.Rules, `node "n1"`), preview)
	_, _, err = acl.TemplatedPolicyPreview(&api.ACLTemplatedPolicy{TemplateName: api.ACLTemplatedPolicyNodeName}, nil)
	refused("a preview without its variable", err, "name is required")
}

// first2 leaves a call's metadata out.
func first2[T, M any](value T, _ M, err error) (T, error) { return value, err }
