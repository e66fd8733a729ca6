// Verifies an approval as a Sigstore bundle, with npm's @sigstore/verify and no code of ours.
//
//     sigstore_verify.mjs AGREEMENT BUNDLE KEY.pem [AUTHORITY.pem...]
//
// The bundle must point at KEY by the SHA-256 of its SPKI form, as clients with many keys look it up.
// With certificates of a timestamp authority, leaf first, the bundle must also carry one valid RFC 3161 timestamp.
// Sigstore checks the signature; that the statement is about AGREEMENT is checked here. Ends with 1 on any refusal.

import { createHash, createPublicKey, X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import bundles from "@sigstore/bundle";
import sigstore from "@sigstore/verify";

const [agreementFile, bundleFile, keyFile, ...authorityFiles] = process.argv.slice(2);

const STATEMENT = "application/vnd.in-toto+json";

function verify() {
  const publicKey = createPublicKey(readFileSync(keyFile));
  const certificates = authorityFiles.map((file) => ({ rawBytes: new X509Certificate(readFileSync(file)).raw }));
  const authority = { certChain: { certificates } };
  const trust = {
    tlogs: [],
    ctlogs: [],
    certificateAuthorities: [],
    timestampAuthorities: certificates.length > 0 ? [authority] : [],
  };
  const fingerprint = createHash("sha256").update(publicKey.export({ type: "spki", format: "der" })).digest("hex");
  const material = sigstore.toTrustMaterial(trust, (hint) => {
    if (hint !== fingerprint) {
      throw new Error(`no key has the hint ${hint}`);
    }
    return { publicKey, validFor: () => true };
  });
  const thresholds = { tlogThreshold: 0, ctlogThreshold: 0, timestampThreshold: certificates.length > 0 ? 1 : 0 };
  const bundle = bundles.bundleFromJSON(JSON.parse(readFileSync(bundleFile, "utf8")));
  new sigstore.Verifier(material, thresholds).verify(sigstore.toSignedEntity(bundle));

  const { payload, payloadType } = bundle.content.dsseEnvelope;
  if (payloadType !== STATEMENT) {
    throw new Error(`signs a ${payloadType}`);
  }
  const digest = createHash("sha256").update(readFileSync(agreementFile)).digest("hex");
  const subjects = JSON.parse(payload).subject.map((subject) => subject.digest.sha256);
  if (subjects.length !== 1 || subjects[0] !== digest) {
    throw new Error("approves another agreement");
  }
}

try {
  verify();
  console.log("the bundle verifies");
} catch (error) {
  console.log(`refused: ${error.code ?? error.name}: ${error.message}`);
  process.exit(1);
}
