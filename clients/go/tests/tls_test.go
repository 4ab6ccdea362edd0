package tests

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	systemv1 "github.com/catga/ordersystem/clients/go/catga/system/v1"
	"github.com/catga/ordersystem/clients/go/ordersystem"
)

// authority signs certificates, and keeps them in a folder.
type authority struct {
	folder      string
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// newAuthority writes NAME.pem.
func newAuthority(t *testing.T, folder, name string) *authority {
	t.Helper()
	a := &authority{folder: folder}
	template := template(name)
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	a.certificate, a.key = a.sign(t, name, template)
	return a
}

// issue writes NAME.pem and NAME.key, for both ends of a connection.
func (a *authority) issue(t *testing.T, name string) {
	t.Helper()
	template := template(name)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	a.sign(t, name, template)
}

func template(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
	}
}

func (a *authority) sign(t *testing.T, name string, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	parent, signer := a.certificate, a.key
	if parent == nil {
		parent, signer = template, key
	}
	signed, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	check(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	check(t, err)
	a.write(t, name+".pem", "CERTIFICATE", signed)
	a.write(t, name+".key", "PRIVATE KEY", secret)
	certificate, err := x509.ParseCertificate(signed)
	check(t, err)
	return certificate, key
}

func (a *authority) path(name string) string { return filepath.Join(a.folder, name) }

func (a *authority) write(t *testing.T, name, kind string, content []byte) {
	t.Helper()
	check(t, os.WriteFile(a.path(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}), 0o600))
}

// client trusts the authority and shows the certificates of these names.
func (a *authority) client(t *testing.T, names ...string) grpc.DialOption {
	t.Helper()
	config := &tls.Config{RootCAs: x509.NewCertPool()}
	config.RootCAs.AddCert(a.certificate)
	for _, name := range names {
		own, err := tls.LoadX509KeyPair(a.path(name+".pem"), a.path(name+".key"))
		check(t, err)
		config.Certificates = append(config.Certificates, own)
	}
	return grpc.WithTransportCredentials(credentials.NewTLS(config))
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// startTLSServer has files made by authority: ca.pem, server.pem and client.pem with their keys.
func startTLSServer(t *testing.T, a *authority, name string, args ...string) *server {
	t.Helper()
	s := newServer(t, name, append(args, "--tls-cert", a.path("server.pem"), "--tls-key", a.path("server.key"))...)
	s.options = []grpc.DialOption{a.client(t, "client")}
	check(t, s.start())
	return s
}

func newCertificates(t *testing.T) *authority {
	t.Helper()
	a := newAuthority(t, t.TempDir(), "ca")
	a.issue(t, "server")
	a.issue(t, "client")
	return a
}

// wantCall makes a call on a connection of its own.
func wantCall(t *testing.T, address string, want codes.Code, options ...grpc.DialOption) {
	t.Helper()
	connection, err := ordersystem.Connect(address, options...)
	check(t, err)
	defer func() { _ = connection.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
	defer cancel()
	reply, err := systemv1.NewSystemServiceClient(connection).GetServerInfo(ctx, &systemv1.GetServerInfoRequest{})
	if status.Code(err) != want || (err == nil) != (reply.GetVersion() != "") {
		t.Errorf("expected %s, got %v %v", want, reply, err)
	}
}

func TestAConnectionSpeaksTLSWhenGivenCredentials(t *testing.T) {
	a := newCertificates(t)
	server := startTLSServer(t, a, "tls")
	wantCall(t, server.address, codes.OK, a.client(t))
	wantCall(t, server.address, codes.Unavailable)
	stranger := newAuthority(t, t.TempDir(), "stranger")
	wantCall(t, server.address, codes.Unavailable, stranger.client(t))
}

func TestAServiceThatAsksForACertificateOfTheClientGetsIt(t *testing.T) {
	a := newCertificates(t)
	server := startTLSServer(t, a, "mutual-tls", "--tls-client-ca", a.path("ca.pem"))
	wantCall(t, server.address, codes.OK, a.client(t, "client"))
	wantCall(t, server.address, codes.Unavailable, a.client(t))
	stranger := newAuthority(t, t.TempDir(), "ca")
	stranger.issue(t, "client")
	own, err := tls.LoadX509KeyPair(stranger.path("client.pem"), stranger.path("client.key"))
	check(t, err)
	trusted := x509.NewCertPool()
	trusted.AddCert(a.certificate)
	foreign := credentials.NewTLS(&tls.Config{RootCAs: trusted, Certificates: []tls.Certificate{own}})
	wantCall(t, server.address, codes.Unavailable, grpc.WithTransportCredentials(foreign))
}
