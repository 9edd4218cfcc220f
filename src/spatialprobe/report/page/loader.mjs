// The page's script is packed, which takes two fifths of its bytes. This unpacks it and runs it.

async function load() {
  const packed = document.getElementById("script")?.textContent ?? "";
  const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.body.append(script);
}

if (typeof DecompressionStream !== "undefined") load();
