#include "rpc/identity.h"

#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include <ctime>
#include <vector>

#include "rpc/openssl.h"

namespace muster::rpc {
namespace {

constexpr int64_t kClockSlackSeconds = 3600;
constexpr const char* kBegin = "-----BEGIN ";

using Store = std::unique_ptr<X509_STORE, Freer<X509_STORE_free>>;
using StoreContext = std::unique_ptr<X509_STORE_CTX, Freer<X509_STORE_CTX_free>>;
using Extension = std::unique_ptr<X509_EXTENSION, Freer<X509_EXTENSION_free>>;

absl::Status Failed(const char* what) {
  char reason[256] = {};
  ERR_error_string_n(ERR_get_error(), reason, sizeof(reason));
  ERR_clear_error();
  return absl::InternalError(fmt::format("{}: {}", what, reason));
}

std::string Text(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  return {data, static_cast<size_t>(std::max(0L, size))};
}

absl::StatusOr<std::string> ToPem(X509* certificate) {
  const Bio bio(BIO_new(BIO_s_mem()));
  if (PEM_write_bio_X509(bio.get(), certificate) != 1) return Failed("cannot write a certificate");
  return Text(bio.get());
}

absl::StatusOr<std::string> ToPem(EVP_PKEY* key) {
  const Bio bio(BIO_new(BIO_s_mem()));
  if (PEM_write_bio_PKCS8PrivateKey(bio.get(), key, nullptr, nullptr, 0, nullptr, nullptr) != 1) {
    return Failed("cannot write a key");
  }
  return Text(bio.get());
}

bool AddExtension(X509* certificate, X509* issuer, int id, const char* value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  const Extension extension(X509V3_EXT_conf_nid(nullptr, &context, id, value));
  return extension != nullptr && X509_add_ext(certificate, extension.get(), -1) == 1;
}

struct Request {
  std::string name;
  int64_t from_s = 0, until_s = 0;
  std::vector<std::pair<int, const char*>> extensions;
};

// Signed by `issuer` with `issuer_key`; by itself when that is null.
absl::StatusOr<Certificate> Sign(const Request& request, EVP_PKEY* key, X509* issuer,
                                 EVP_PKEY* issuer_key) {
  Certificate certificate(X509_new());
  X509* const x = certificate.get();
  unsigned char serial[16];
  if (RAND_bytes(serial, sizeof(serial)) != 1) return Failed("no random numbers");
  serial[0] &= 0x7f;
  const std::unique_ptr<BIGNUM, Freer<BN_free>> number(BN_bin2bn(serial, sizeof(serial), nullptr));
  X509_NAME* const subject = X509_get_subject_name(x);
  const auto* name = reinterpret_cast<const unsigned char*>(request.name.c_str());
  // X.509's common name has at most 64 characters.
  const int size = static_cast<int>(std::min<size_t>(request.name.size(), 64));
  if (X509_set_version(x, X509_VERSION_3) != 1 ||
      BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(x)) == nullptr ||
      ASN1_TIME_set(X509_getm_notBefore(x), request.from_s) == nullptr ||
      ASN1_TIME_set(X509_getm_notAfter(x), request.until_s) == nullptr ||
      X509_set_pubkey(x, key) != 1 ||
      X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, name, size, -1, 0) != 1 ||
      X509_set_issuer_name(x, issuer == nullptr ? subject : X509_get_subject_name(issuer)) != 1) {
    return Failed("cannot make a certificate");
  }
  for (const auto& [id, value] : request.extensions) {
    if (!AddExtension(x, issuer == nullptr ? x : issuer, id, value)) {
      return Failed("cannot make a certificate");
    }
  }
  if (X509_sign(x, issuer_key == nullptr ? key : issuer_key, EVP_sha256()) == 0) {
    return Failed("cannot sign a certificate");
  }
  return certificate;
}

}  // namespace

std::string EncodeIdentity(const Identity& identity) {
  return identity.authority + identity.certificate + identity.key;
}

absl::StatusOr<Identity> ParseIdentity(const std::string& text) {
  if (text.empty()) return Identity();
  std::vector<std::string> parts;
  for (size_t begin = text.find(kBegin); begin != std::string::npos;) {
    const size_t next = text.find(kBegin, begin + 1);
    parts.push_back(text.substr(begin, next == std::string::npos ? next : next - begin));
    begin = next;
  }
  if (parts.size() != 3 || CertificateFromPem(parts[0]) == nullptr ||
      CertificateFromPem(parts[1]) == nullptr) {
    ERR_clear_error();
    return absl::InvalidArgumentError("what should be a certificate and a key of the job is none");
  }
  return Identity{parts[0], parts[1], parts[2]};
}

absl::Status CheckCertificate(const std::string& certificate, const std::string& authority,
                              int64_t now_s) {
  if (certificate.empty()) return absl::UnauthenticatedError("it shows no certificate");
  const Certificate theirs = CertificateFromPem(certificate),
                    trusted = CertificateFromPem(authority);
  const Store store(X509_STORE_new());
  const StoreContext context(X509_STORE_CTX_new());
  if (theirs == nullptr || trusted == nullptr ||
      X509_STORE_add_cert(store.get(), trusted.get()) != 1 ||
      X509_STORE_CTX_init(context.get(), store.get(), theirs.get(), nullptr) != 1) {
    ERR_clear_error();
    return absl::UnauthenticatedError("its certificate cannot be read");
  }
  X509_STORE_CTX_set_time(context.get(), 0, now_s);
  if (X509_verify_cert(context.get()) == 1) return absl::OkStatus();
  const int error = X509_STORE_CTX_get_error(context.get());
  ERR_clear_error();
  if (error == X509_V_ERR_CERT_HAS_EXPIRED) {
    return absl::UnauthenticatedError("its certificate has expired");
  }
  if (error == X509_V_ERR_CERT_NOT_YET_VALID) {
    return absl::UnauthenticatedError("its certificate is not valid yet: a clock is wrong");
  }
  return absl::UnauthenticatedError(
      fmt::format("its certificate is not of this job: {}", X509_verify_cert_error_string(error)));
}

struct JobAuthority::Parts {
  Certificate certificate;
  Key key;
  std::string pem;
  int64_t from_s = 0, until_s = 0;
};

absl::StatusOr<JobAuthority> JobAuthority::Make(const std::string& job, int64_t now_s,
                                                int64_t until_s) {
  auto parts = std::make_shared<Parts>();
  parts->from_s = now_s - kClockSlackSeconds;
  parts->until_s = until_s;
  parts->key.reset(EVP_EC_gen("P-256"));
  if (parts->key == nullptr) return Failed("cannot make a key");
  ASSIGN_OR_RETURN(parts->certificate,
                   Sign({.name = job,
                         .from_s = parts->from_s,
                         .until_s = until_s,
                         .extensions = {{NID_basic_constraints, "critical,CA:TRUE,pathlen:0"},
                                        {NID_key_usage, "critical,keyCertSign"}}},
                        parts->key.get(), nullptr, nullptr));
  ASSIGN_OR_RETURN(parts->pem, ToPem(parts->certificate.get()));
  return JobAuthority(std::move(parts));
}

absl::StatusOr<Identity> JobAuthority::Issue(const std::string& name) const {
  const Key key(EVP_EC_gen("P-256"));
  if (key == nullptr) return Failed("cannot make a key");
  static const std::string kNames = std::string("DNS:") + kCertifiedName;
  ASSIGN_OR_RETURN(const Certificate certificate,
                   Sign({.name = name,
                         .from_s = parts_->from_s,
                         .until_s = parts_->until_s,
                         .extensions = {{NID_basic_constraints, "critical,CA:FALSE"},
                                        {NID_key_usage, "critical,digitalSignature"},
                                        {NID_ext_key_usage, "serverAuth,clientAuth"},
                                        {NID_subject_alt_name, kNames.c_str()}}},
                        key.get(), parts_->certificate.get(), parts_->key.get()));
  Identity identity;
  identity.authority = parts_->pem;
  ASSIGN_OR_RETURN(identity.certificate, ToPem(certificate.get()));
  ASSIGN_OR_RETURN(identity.key, ToPem(key.get()));
  return identity;
}

}  // namespace muster::rpc
