// All that pages need of a script. A page works without any of it.
import "./case-list";
import "./draft-keeper";
import { readInvitation } from "./invitation";

document.documentElement.dataset.script = "";
readInvitation();
