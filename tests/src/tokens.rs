//! Service-account tokens as a Kubernetes API server would issue them, and the key set to check them.

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Issues tokens.
pub struct Issuer {
    key: KeyPair,
    name: String,
}

/// Who a token speaks for.
#[derive(Clone, Copy, Debug)]
pub struct Claims<'a> {
    /// The namespace of the service account.
    pub namespace: &'a str,
    /// The service account.
    pub account: &'a str,
    /// The pod that the token is bound to.
    pub pod: &'a str,
    /// The node on which that pod runs.
    pub node: &'a str,
    /// For whom the token is.
    pub audience: &'a str,
    /// How long it is valid.
    pub lifetime: Duration,
}

impl<'a> Claims<'a> {
    /// The token of the agent on `node`.
    pub const fn agent(node: &'a str) -> Self {
        Self {
            namespace: "weft-system",
            account: "weft-node",
            pod: "weft-node",
            node,
            audience: "istio-ca",
            lifetime: Duration::from_secs(24 * 3600),
        }
    }
}

impl Issuer {
    /// An issuer with a key of its own.
    pub fn new(name: &str) -> Result<Self> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("cannot make a key")?;
        Ok(Self {
            key,
            name: name.to_owned(),
        })
    }

    /// The issuer's name, the claim `iss`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The public keys (a JWKS document).
    pub fn key_set(&self) -> Result<Value> {
        // An uncompressed point: 4, then the two coordinates.
        let point = self.key.der_bytes();
        let x = point
            .get(1..33)
            .context("not an uncompressed P-256 point")?;
        let y = point
            .get(33..65)
            .context("not an uncompressed P-256 point")?;
        Ok(json!({"keys": [{
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "lab",
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        }]}))
    }

    /// A token with these claims.
    pub fn token(&self, claims: &Claims<'_>) -> Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let Claims {
            namespace,
            account,
            pod,
            node,
            audience,
            lifetime,
        } = claims;
        let body = json!({
            "iss": self.name,
            "sub": format!("system:serviceaccount:{namespace}:{account}"),
            "aud": [audience],
            "iat": now,
            "nbf": now,
            "exp": now + lifetime.as_secs(),
            "kubernetes.io": {
                "namespace": namespace,
                "serviceaccount": {"name": account},
                "pod": {"name": pod},
                "node": {"name": node},
            },
        });
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some("lab".to_owned());
        let key = EncodingKey::from_ec_der(self.key.serialized_der());
        jsonwebtoken::encode(&header, &body, &key).context("cannot sign a token")
    }
}

#[cfg(test)]
mod tests {
    use super::{Claims, Issuer};
    use jsonwebtoken::jwk::JwkSet;
    use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
    use serde_json::Value;

    #[test]
    fn a_token_verifies_with_the_published_keys_and_with_no_others() {
        let issuer = Issuer::new("https://issuer.example").unwrap();
        let token = issuer.token(&Claims::agent("node1")).unwrap();
        let key = |issuer: &Issuer| {
            let set: JwkSet = serde_json::from_value(issuer.key_set().unwrap()).unwrap();
            DecodingKey::from_jwk(&set.keys[0]).unwrap()
        };
        let mut rules = Validation::new(Algorithm::ES256);
        rules.set_audience(&["istio-ca"]);
        rules.set_issuer(&["https://issuer.example"]);
        let claims = decode::<Value>(&token, &key(&issuer), &rules)
            .unwrap()
            .claims;
        assert_eq!(claims["kubernetes.io"]["node"]["name"], "node1");
        assert_eq!(claims["sub"], "system:serviceaccount:weft-system:weft-node");
        let other = Issuer::new("https://issuer.example").unwrap();
        assert!(decode::<Value>(&token, &key(&other), &rules).is_err());
    }
}
