// An authorization server that nobody of this project wrote: oidc-provider, certified by the OpenID Foundation, in memory, on a port of loopback.
// Arguments: port, redirect address, lifetime in seconds, folder in which oidc-provider is installed.
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const [port, redirect, lifetime, folder] = process.argv.slice(2);
const require = createRequire(`${folder}/package.json`);
const { default: Provider } = await import(pathToFileURL(require.resolve('oidc-provider')).href);
const seconds = Number(lifetime);

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [{
    client_id: 'demo',
    client_secret: 'demo-secret-of-the-foreign-provider',
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
    redirect_uris: [redirect],
    application_type: 'native',
    token_endpoint_auth_method: 'client_secret_basic',
  }],
  // every refresh token works once, and showing one again withdraws the grant
  rotateRefreshToken: true,
  issueRefreshToken: async () => true,
  ttl: {
    AccessToken: seconds, RefreshToken: seconds, AuthorizationCode: 60, IdToken: seconds, Grant: 86400, Interaction: 600, Session: 86400,
  },
  features: { devInteractions: { enabled: true }, introspection: { enabled: true }, revocation: { enabled: true } },
  cookies: { keys: ['a key of the test'] },
});
for (const name of ['grant.success', 'grant.error', 'grant.revoked', 'server_error']) {
  provider.on(name, (...given) => {
    const error = given.find((each) => each instanceof Error);
    const kind = given[0]?.oidc?.params?.grant_type ?? '';
    console.log(JSON.stringify({ event: name, grant: kind, error: error ? `${error.error ?? error.name} ${error.error_detail ?? ''}`.trim() : null }));
  });
}
provider.listen(Number(port), '127.0.0.1', () => console.log(JSON.stringify({ event: 'listening' })));
