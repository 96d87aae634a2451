// A receiver of state changes in C#, with nothing but the class library: it compiles for .NET and for Mono.
//
//   mcs -r:System.Runtime.Serialization Receiver.cs        (Mono; RS256 only)
//   DISCOVERY_URL=… ISSUER=… CLIENT_ID=… WEBHOOK_SECRET=whsec_… mono Receiver.exe
//
// PORT and INBOX_FILE are optional. It logs one JSON line per event.

using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Net;
using System.Net.Sockets;
using System.Runtime.Serialization;
using System.Runtime.Serialization.Json;
using System.Security.Cryptography;
using System.Text;
using System.Threading;

static class Settings
{
    public static readonly string DiscoveryUrl = Get("DISCOVERY_URL", null);
    public static readonly string Issuer = Get("ISSUER", null);
    public static readonly string ClientId = Get("CLIENT_ID", null);
    public static readonly string WebhookSecret = Get("WEBHOOK_SECRET", null);
    public static readonly string Port = Get("PORT", "0");
    public static readonly string InboxFile = Get("INBOX_FILE", "inbox.json");

    static string Get(string name, string otherwise)
    {
        var value = Environment.GetEnvironmentVariable(name);
        if (!string.IsNullOrEmpty(value)) return value;
        if (otherwise == null) throw new InvalidOperationException(name + " is not set");
        return otherwise;
    }
}

class Refused : Exception
{
    public readonly int Status;
    public readonly string Part;

    public Refused(int status, string part, string why) : base(why)
    {
        Status = status;
        Part = part;
    }
}

[DataContract]
class Notification
{
    [DataMember(IsRequired = true)] public int ChangeType;
    [DataMember(IsRequired = true)] public string ContextIdentifier;
    [DataMember(IsRequired = true)] public string Token;
    [DataMember] public string PublicEndpoint;
}

static class Json
{
    static readonly DataContractJsonSerializerSettings settings =
        new DataContractJsonSerializerSettings { UseSimpleDictionaryFormat = true };

    public static T Read<T>(byte[] text)
    {
        return (T)new DataContractJsonSerializer(typeof(T), settings).ReadObject(new MemoryStream(text));
    }

    public static byte[] Write<T>(T value)
    {
        var stream = new MemoryStream();
        new DataContractJsonSerializer(typeof(T), settings).WriteObject(stream, value);
        return stream.ToArray();
    }
}

static class Signature
{
    // region signature
    static readonly byte[] secret = Convert.FromBase64String(Settings.WebhookSecret.Substring("whsec_".Length));

    // body must be the bytes as they arrived, before any parsing.
    public static void Verify(byte[] body, string id, string timestamp, string signatures)
    {
        long sent;
        var now = DateTimeOffset.UtcNow.ToUnixTimeSeconds();
        if (!long.TryParse(timestamp, out sent) || sent < now - 300 || sent > now + 300)
            throw new Refused(401, "signature", "webhook-timestamp is missing or not of now");
        byte[] expected;
        using (var hmac = new HMACSHA256(secret))
            expected = hmac.ComputeHash(Encoding.UTF8.GetBytes(id + "." + timestamp + ".").Concat(body).ToArray());
        // While the secret is rotated there are several signatures: one match is enough.
        foreach (var signature in (signatures ?? "").Split(' '))
            if (Same(Encoding.UTF8.GetBytes(signature), Encoding.UTF8.GetBytes("v1," + Convert.ToBase64String(expected))))
                return;
        throw new Refused(401, "signature", "no signature matches");
    }

    // Takes the same time at any position of a difference; on .NET, CryptographicOperations.FixedTimeEquals does it.
    static bool Same(byte[] a, byte[] b)
    {
        var difference = a.Length ^ b.Length;
        for (var i = 0; i < a.Length && i < b.Length; i++) difference |= a[i] ^ b[i];
        return difference == 0;
    }
    // endregion
}

static class Token
{
    // region token
    [DataContract] class Header { [DataMember] public string alg; [DataMember] public string kid; }
    [DataContract] class Discovery { [DataMember] public string jwks_uri; }
    [DataContract] class KeySet { [DataMember] public Key[] keys; }

    [DataContract]
    class Key
    {
        [DataMember] public string kty, alg, kid, n, e, crv, x, y;
    }

    [DataContract]
    class Claims
    {
        [DataMember] public string iss, aud;
        [DataMember] public long nbf, exp;
        [DataMember(Name = "http://schemes.superoffice.net/identity/ctx")] public string tenant;
    }

    static readonly object mutex = new object();
    static Dictionary<string, Key> keys = new Dictionary<string, Key>();
    static DateTime fetched;

    public static void Verify(string token, string tenant)
    {
        Header header;
        Claims claims;
        byte[] signature;
        var parts = token.Split('.');
        try
        {
            header = Json.Read<Header>(Decode(parts[0]));
            claims = Json.Read<Claims>(Decode(parts[1]));
            signature = Decode(parts[2]);
        }
        catch (Exception e)
        {
            throw new Refused(401, "token", "Token is no JWT: " + e.Message);
        }
        var key = Find(header.kid ?? "");
        // The key decides the algorithm; the header of Token must agree with it.
        if (key.alg != header.alg || !Verify(key, Encoding.ASCII.GetBytes(parts[0] + "." + parts[1]), signature))
            throw new Refused(401, "token", "the signature of Token is wrong");
        var now = DateTimeOffset.UtcNow.ToUnixTimeSeconds();
        if (claims.exp <= now - 30 || claims.nbf > now + 30) throw new Refused(401, "token", "Token is expired");
        if (claims.iss != Settings.Issuer) throw new Refused(401, "token", "Token is from another issuer");
        if (claims.aud != "spn:" + Settings.ClientId) throw new Refused(401, "token", "Token is for another app");
        if (claims.tenant != tenant) throw new Refused(401, "token", "Token is for another tenant");
    }

    static bool Verify(Key key, byte[] signed, byte[] signature)
    {
        if (key.alg == "RS256")
            using (var rsa = RSA.Create())
            {
                rsa.ImportParameters(new RSAParameters { Modulus = Decode(key.n), Exponent = Decode(key.e) });
                return rsa.VerifyData(signed, signature, HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1);
            }
        if (key.alg == "ES256")
            using (var ec = ECDsa.Create(new ECParameters
            {
                Curve = ECCurve.NamedCurves.nistP256,
                Q = new ECPoint { X = Decode(key.x), Y = Decode(key.y) }
            }))
                return ec.VerifyData(signed, signature, HashAlgorithmName.SHA256);
        return false;
    }

    // The published keys, fetched again when they are old and for a kid that is not among them.
    static Key Find(string kid)
    {
        lock (mutex)
        {
            Key key;
            if (keys.TryGetValue(kid, out key) && DateTime.UtcNow - fetched < TimeSpan.FromMinutes(10)) return key;
            try
            {
                var discovery = Json.Read<Discovery>(Fetch(Settings.DiscoveryUrl));
                keys = Json.Read<KeySet>(Fetch(discovery.jwks_uri)).keys.ToDictionary(k => k.kid);
                fetched = DateTime.UtcNow;
            }
            catch (Exception e)
            {
                throw new Refused(503, "keys", e.Message); // our trouble, not the sender's: ask for another try
            }
            if (keys.TryGetValue(kid, out key)) return key;
            throw new Refused(401, "token", "no published key has this kid");
        }
    }

    static byte[] Decode(string text)
    {
        text = text.Replace('-', '+').Replace('_', '/');
        return Convert.FromBase64String(text.PadRight((text.Length + 3) / 4 * 4, '='));
    }
    // endregion

    static byte[] Fetch(string url)
    {
        var request = (HttpWebRequest)WebRequest.Create(url);
        request.Timeout = 3000;
        using (var answer = request.GetResponse())
        using (var copy = new MemoryStream())
        {
            answer.GetResponseStream().CopyTo(copy);
            return copy.ToArray();
        }
    }
}

[DataContract]
class Change
{
    [DataMember] public string webhook_id, tenant;
    [DataMember] public int change_type;
    [DataMember] public long sequence;
    [DataMember(EmitDefaultValue = false)] public string public_endpoint;
}

// region inbox
// The sequences received and the work to be done. A file stands in for your database: one transaction must
// hold both the check and the insert.
class Inbox
{
    [DataContract]
    class State
    {
        [DataMember] public Dictionary<string, Heard> tenants = new Dictionary<string, Heard>();
        [DataMember] public List<Change> work = new List<Change>();

        public State Copy()
        {
            return new State { tenants = new Dictionary<string, Heard>(tenants), work = new List<Change>(work) };
        }
    }

    [DataContract]
    class Heard { [DataMember] public long sequence; [DataMember] public List<string> ids; }

    readonly object mutex = new object();
    readonly string path;
    State state = new State();

    public Inbox(string path)
    {
        this.path = path;
        if (File.Exists(path)) state = Json.Read<State>(File.ReadAllBytes(path));
    }

    // Only a smaller sequence is outdated. An equal one under a new id is the state sent again: accept it.
    public string Accept(Change change)
    {
        lock (mutex)
        {
            Heard heard;
            if (!state.tenants.TryGetValue(change.tenant, out heard) || change.sequence > heard.sequence)
                heard = new Heard { sequence = change.sequence, ids = new List<string>() };
            if (change.sequence < heard.sequence) return "older";
            if (heard.ids.Contains(change.webhook_id)) return "duplicate";
            var ids = heard.ids.Skip(Math.Max(0, heard.ids.Count - 49)).Concat(new[] { change.webhook_id }).ToList();
            var next = state.Copy();
            next.tenants[change.tenant] = new Heard { sequence = change.sequence, ids = ids };
            next.work.Add(change);
            Save(next);
            Monitor.PulseAll(mutex);
            return "new";
        }
    }

    // The oldest change to be worked on; waits for one.
    public Change First()
    {
        lock (mutex)
        {
            while (state.work.Count == 0) Monitor.Wait(mutex);
            return state.work[0];
        }
    }

    public void Done()
    {
        lock (mutex)
        {
            var next = state.Copy();
            next.work.RemoveAt(0);
            Save(next);
        }
    }

    void Save(State next)
    {
        var text = Json.Write(next);
        using (var file = new FileStream(path + ".new", FileMode.Create))
        {
            file.Write(text, 0, text.Length);
            file.Flush(true);
        }
        if (File.Exists(path)) File.Replace(path + ".new", path, null);
        else File.Move(path + ".new", path);
        state = next; // what could not be stored was not accepted
    }
}
// endregion

[DataContract]
class Line
{
    [DataMember(Name = "event")] public string name;
    [DataMember(EmitDefaultValue = false)] public int port, status;
    [DataMember(EmitDefaultValue = false)] public string part, why, action, webhook_id, tenant;
    [DataMember(EmitDefaultValue = false)] public long sequence;

    public void Log()
    {
        var text = Encoding.UTF8.GetString(Json.Write(this));
        lock (typeof(Line)) Console.WriteLine(text);
    }
}

static class Program
{
    const int MaxBody = 64 * 1024;
    static readonly Inbox inbox = new Inbox(Settings.InboxFile);

    static void Main()
    {
        var port = Settings.Port == "0" ? FreePort() : int.Parse(Settings.Port);
        var listener = new HttpListener();
        listener.Prefixes.Add("http://127.0.0.1:" + port + "/");
        listener.Start();
        new Line { name = "listening", port = port }.Log();
        new Thread(Work) { IsBackground = true }.Start();
        while (true)
        {
            var context = listener.GetContext();
            ThreadPool.QueueUserWorkItem(_ => Serve(context));
        }
    }

    static int FreePort()
    {
        var probe = new TcpListener(IPAddress.Loopback, 0);
        probe.Start();
        var port = ((IPEndPoint)probe.LocalEndpoint).Port;
        probe.Stop();
        return port;
    }

    // region receive
    static void Serve(HttpListenerContext context)
    {
        try
        {
            var change = Receive(context.Request);
            var verdict = inbox.Accept(change);
            Answer(context.Response, 204, ""); // stored: the sender need not wait for the work
            new Line
            {
                name = verdict == "new" ? "accepted" : "ignored", why = verdict,
                webhook_id = change.webhook_id, tenant = change.tenant, sequence = change.sequence
            }.Log();
        }
        catch (Exception e)
        {
            var no = e as Refused ?? new Refused(500, "receiver", e.Message);
            Answer(context.Response, no.Status, no.Message);
            new Line { name = "refused", status = no.Status, part = no.Part, why = no.Message }.Log();
        }
    }

    static Change Receive(HttpListenerRequest request)
    {
        var body = Body(request);
        var headers = request.Headers;
        Signature.Verify(body, headers["webhook-id"], headers["webhook-timestamp"], headers["webhook-signature"]);
        Notification n;
        long sequence;
        try
        {
            n = Json.Read<Notification>(body);
            sequence = long.Parse(headers["x-state-sequence"]);
        }
        catch (Exception e)
        {
            throw new Refused(400, "body", "not a state change: " + e.Message);
        }
        Token.Verify(n.Token ?? "", n.ContextIdentifier);
        return new Change
        {
            webhook_id = headers["webhook-id"], tenant = n.ContextIdentifier, change_type = n.ChangeType,
            sequence = sequence, public_endpoint = n.PublicEndpoint
        };
    }
    // endregion

    static byte[] Body(HttpListenerRequest request)
    {
        var buffer = new byte[MaxBody + 1];
        var size = 0;
        int got;
        while ((got = request.InputStream.Read(buffer, size, buffer.Length - size)) > 0) size += got;
        if (size > MaxBody) throw new Refused(413, "body", "too large");
        Array.Resize(ref buffer, size);
        return buffer;
    }

    static void Answer(HttpListenerResponse response, int status, string text)
    {
        try
        {
            response.StatusCode = status;
            if (status == 503) response.AddHeader("Retry-After", "30");
            if (status == 204) response.Close();
            else response.Close(Encoding.UTF8.GetBytes(text), false);
        }
        catch (Exception)
        {
            // The sender closed the connection; it will send again.
        }
    }

    // region work
    // Put your own calls here. A crash between Handle and Done repeats the last one, so make it idempotent.
    static string Handle(Change change)
    {
        switch (change.change_type)
        {
            case 0: // Upgrade
            case 2: // Suspend
                return "pause";
            case 1: // BackupRestored
                return "resynchronize";
            case 3: // Resume
                return "resume";
            case 4: // Delete
                return "forget";
            case 5: // Move
                return "use " + change.public_endpoint;
            default: // a type of the future
                return "nothing";
        }
    }

    static void Work()
    {
        while (true)
        {
            var change = inbox.First();
            try
            {
                var action = Handle(change);
                inbox.Done();
                new Line
                {
                    name = "handled", action = action,
                    webhook_id = change.webhook_id, tenant = change.tenant, sequence = change.sequence
                }.Log();
            }
            catch (Exception e)
            {
                new Line { name = "postponed", why = e.Message }.Log();
                Thread.Sleep(30000);
            }
        }
    }
    // endregion
}
